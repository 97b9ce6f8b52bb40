"""Readers' leases: which versions of a table are still needed, and by whom.

A reader keeps a small document in the table's folder, ``_raylake/readers/<reader>.json``, which
whoever deletes files there finds by the table's address alone. It names the oldest version that
the reader may still read, and is written anew as the reader goes on. Vacuum and the log's clean-up
leave what that version and all later ones need. A lease that was not renewed for longer than its
reader's ``max_hold`` counts no more: a reader that is gone holds nothing back for ever.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from raylake.clock import Clock, SystemClock
from raylake.errors import Refused
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder, names, write_whole
from raylake.storage.reach import explained

FORMAT: Final = 1
FOLDER: Final = "_raylake"
READERS: Final = "readers"
DEFAULT_MAX_HOLD_S: Final = 7 * 86_400.0
RENEWALS: Final = 20
"""A lease on an unchanged version is written anew this often within ``max_hold``."""
_SUFFIX: Final = ".json"


def reader_of(pipeline: str, table: str) -> str:
    """The name under which a derived table reads; no reader that people name has such a one.

    Args:
        pipeline: Its pipeline.
        table: ``layer.name``.
    """
    return f"{pipeline}:{table}"


class LeaseUnread(Refused):
    """A reader's lease cannot be read, so what it needs is not known; nothing was deleted."""

    code = "lease_unread"


@dataclass(frozen=True, slots=True)
class Lease:
    """What one reader needs.

    Attributes:
        reader: Its name.
        table_id: The table's id: one that was created again is another table.
        version: The oldest version that it may still read; it needs the later ones too.
        since_ms: Since when it has needed this version, milliseconds since the epoch.
        renewed_ms: When it said so last.
        max_hold_s: After this long without a word it counts no more, in seconds.
    """

    reader: str
    table_id: str
    version: int
    since_ms: int
    renewed_ms: int
    max_hold_s: float

    @property
    def until_ms(self) -> int:
        """When it ends unless it is renewed, milliseconds since the epoch."""
        return self.renewed_ms + int(self.max_hold_s * 1000)


@dataclass(frozen=True, slots=True)
class Held:
    """The leases on a table at one time, by reader.

    Attributes:
        live: Those that count.
        expired: Those that were not renewed for too long.
    """

    live: tuple[Lease, ...] = ()
    expired: tuple[Lease, ...] = ()

    @property
    def oldest(self) -> int | None:
        """The oldest version that is needed; None: no lease counts."""
        return min((one.version for one in self.live), default=None)

    def below(self, version: int) -> Held:
        """The leases on versions before one."""
        return Held(_below(self.live, version), _below(self.expired, version))

    def note(self, now_ms: int) -> str:
        """Who holds files back, and who was passed over, for people; empty for nobody."""
        said = [
            f"reader {one.reader} holds version {one.version} and later ones, until "
            f"{_span(one.until_ms - now_ms)} from now unless it goes on"
            for one in self.live
        ]
        said += [
            f"reader {one.reader} was passed over: it needed version {one.version}, and has been "
            f"silent for {_span(now_ms - one.renewed_ms)} (max_hold {_span_s(one.max_hold_s)})"
            for one in self.expired
        ]
        return "; ".join(said)


class Leases:
    """The leases on one table.

    Args:
        root: The table.
        clock: Time.
    """

    def __init__(self, root: Place, clock: Clock | None = None) -> None:
        self._folder = root / FOLDER / READERS
        self._clock = clock or SystemClock()
        self._mine: dict[str, Lease] = {}

    def renew(
        self, reader: str, table_id: str, version: int, max_hold_s: float = DEFAULT_MAX_HOLD_S
    ) -> Lease:
        """Say that a reader goes on, and from which version; cheap where nothing is new.

        To be called before the version is read, and again after what was made of it is committed.

        Args:
            reader: A name that may be a file's.
            table_id: The table's id.
            version: The oldest version that it may still read.
            max_hold_s: For how long without another call, in seconds.

        Returns:
            The lease.

        Raises:
            Refused, DependencyUnreachable, ConfigError: It cannot be written.
        """
        now_ms = int(self._clock.now() * 1000)
        new = Lease(reader, table_id, version, now_ms, now_ms, max_hold_s)
        old = self._mine.get(reader) or self._old(reader)
        if old is not None and replace(old, since_ms=now_ms, renewed_ms=now_ms) == new:
            if now_ms - old.renewed_ms < max_hold_s * 1000 / RENEWALS:
                return old
            new = replace(new, since_ms=old.since_ms)
        with Told(self._folder):
            make_folder(self._folder)
            draft = f".{reader}.{secrets.token_hex(4)}"
            write_whole(self._at(reader), _text(new), scratch=draft, sync=True)
        self._mine[reader] = new
        return new

    def release(self, reader: str) -> None:
        """Say that a reader needs nothing any more; raises as :meth:`renew`."""
        self._mine.pop(reader, None)
        with Told(self._folder):
            self._at(reader).unlink(missing_ok=True)

    def all(self) -> list[Lease]:
        """Every lease, by reader, those of the table's predecessors under its name too.

        Raises:
            LeaseUnread: A document is none, or of a newer format.
            DependencyUnreachable, ConfigError: The store does not answer, or refuses.
        """
        with Told(self._folder):
            try:
                found = sorted(one for one in names(self._folder) if _is_lease(one))
            except (FileNotFoundError, NotADirectoryError):
                return []
            leases = [self._read(one.removesuffix(_SUFFIX)) for one in found]
        return [one for one in leases if one is not None]

    def held(self, table_id: str, now_ms: int | None = None) -> Held:
        """The leases on the table of this id at a time; raises as :meth:`all`.

        Args:
            table_id: The table's id.
            now_ms: Milliseconds since the epoch; None: now.
        """
        now_ms = int(self._clock.now() * 1000) if now_ms is None else now_ms
        mine = [one for one in self.all() if one.table_id == table_id]
        live = tuple(one for one in mine if one.until_ms > now_ms)
        return Held(live, tuple(one for one in mine if one not in live))

    def _old(self, reader: str) -> Lease | None:
        with Told(self._folder):
            try:
                return self._read(reader)
            except LeaseUnread:
                # It is the reader's own; what it says now counts.
                return None

    def _read(self, reader: str) -> Lease | None:
        at = self._at(reader)
        try:
            text = at.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return _parsed(at, text, reader)

    def _at(self, reader: str) -> Place:
        return self._folder / f"{reader}{_SUFFIX}"


class Told:
    """Says what the trouble with a folder of leases or pins is."""

    def __init__(self, folder: Place) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if not isinstance(error, OSError):
            return
        if isinstance(self._folder, StorePath):
            raise explained(self._folder, error) from error
        raise Refused(
            f"{self._folder}: a reader's lease cannot be read or written: "
            f"{error.strerror or error}",
            hint="may this user write into the table's folder?",
        ) from error


def _is_lease(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _text(lease: Lease) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "table_id": lease.table_id,
            "version": lease.version,
            "since_ms": lease.since_ms,
            "renewed_ms": lease.renewed_ms,
            "max_hold_s": lease.max_hold_s,
        }
    )


def _parsed(at: Place, text: str, reader: str) -> Lease:
    try:
        document: dict[str, Any] = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}")  # noqa: TRY301
        return Lease(
            reader,
            str(document["table_id"]),
            int(document["version"]),
            int(document["since_ms"]),
            int(document["renewed_ms"]),
            float(document["max_hold_s"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LeaseUnread(
            f"{at} is not a reader's lease: {error}",
            hint="if no reader of that name is at work, delete the file",
            reader=reader,
        ) from error


def _below(leases: Iterable[Lease], version: int) -> tuple[Lease, ...]:
    return tuple(one for one in leases if one.version < version)


def _span(ms: float) -> str:
    return _span_s(ms / 1000)


def _span_s(seconds: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size_s:
            return f"{seconds / size_s:.1f}".removesuffix(".0") + unit
    return f"{seconds:.0f}s"
