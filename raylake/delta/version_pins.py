"""Pinned versions: each stays readable until a time that somebody named.

A pin is a small document in the table's folder, ``_raylake/pins/<name>.json``, beside the readers'
leases (:mod:`raylake.delta.leases`). It keeps the files of one version, and the log that leads to
it; of later versions it keeps nothing, so a long pin costs what one version does.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from raylake.clock import Clock, SystemClock
from raylake.delta.leases import FOLDER, Leases, LeaseUnread, Told
from raylake.storage.place import Place, make_folder, names, write_whole

FORMAT: Final = 1
PINS: Final = "pins"
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class VersionPin:
    """A version that is kept.

    Attributes:
        name: What the pin is known by, in its table.
        table_id: The table's id: one that was created again is another table.
        version: The version.
        until_ms: From then on it counts no more, milliseconds since the epoch.
        made_ms: When it was made.
    """

    name: str
    table_id: str
    version: int
    until_ms: int
    made_ms: int


class Pins:
    """The pins on one table.

    Args:
        root: The table.
        clock: Time.
    """

    def __init__(self, root: Place, clock: Clock | None = None) -> None:
        self._folder = root / FOLDER / PINS
        self._clock = clock or SystemClock()

    def pin(self, name: str, table_id: str, version: int, until_ms: int) -> VersionPin:
        """Keep a version; a pin of that name takes the new version and time.

        Raises:
            Refused, DependencyUnreachable, ConfigError: It cannot be written.
        """
        made = VersionPin(name, table_id, version, until_ms, int(self._clock.now() * 1000))
        with Told(self._folder):
            make_folder(self._folder)
            text = json.dumps({"format": FORMAT, **asdict(made)})
            draft = f".{name}.{secrets.token_hex(4)}"
            write_whole(self._at(name), text, scratch=draft, sync=True)
        return made

    def unpin(self, name: str) -> bool:
        """Keep it no longer; false where there was none. Raises as :meth:`pin`."""
        with Told(self._folder):
            there = self._at(name).exists()
            self._at(name).unlink(missing_ok=True)
        return there

    def all(self) -> list[VersionPin]:
        """Every pin, by name, ended ones and those of the table's predecessors too.

        Raises:
            LeaseUnread: A document is none, or of a newer format.
            DependencyUnreachable, ConfigError: The store does not answer, or refuses.
        """
        with Told(self._folder):
            try:
                found = sorted(one for one in names(self._folder) if _is_pin(one))
            except (FileNotFoundError, NotADirectoryError):
                return []
            pins = [self._read(one.removesuffix(_SUFFIX)) for one in found]
        return [one for one in pins if one is not None]

    def live(self, table_id: str, now_ms: int | None = None) -> tuple[VersionPin, ...]:
        """The pins on the table of this id that count at a time; raises as :meth:`all`."""
        now_ms = int(self._clock.now() * 1000) if now_ms is None else now_ms
        return tuple(
            one for one in self.all() if one.table_id == table_id and one.until_ms > now_ms
        )

    def _read(self, name: str) -> VersionPin | None:
        at = self._at(name)
        try:
            text = at.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            document: dict[str, Any] = json.loads(text)
            if document.pop("format") != FORMAT:
                raise ValueError("it is of another format")  # noqa: TRY301
            return VersionPin(**{**document, "name": name})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LeaseUnread(
                f"{at} is not a pin: {error}",
                hint="delete the file if the version need not be kept",
                pin=name,
            ) from error

    def _at(self, name: str) -> Place:
        return self._folder / f"{name}{_SUFFIX}"


def needed_from(root: Place, table_id: str, now_ms: int | None = None) -> int | None:
    """The oldest version that a reader's lease or a pin needs the log of; None: nobody does.

    Raises:
        LeaseUnread: What is needed cannot be told.
    """
    reader = Leases(root).held(table_id, now_ms).oldest
    pinned = (one.version for one in Pins(root).live(table_id, now_ms))
    return min([*pinned, *([] if reader is None else [reader])], default=None)


def told(pins: Iterable[VersionPin]) -> str:
    """The pins in words; empty for none."""
    return "; ".join(f"pin {one.name} keeps version {one.version}" for one in pins)


def _is_pin(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")
