"""The files of orders: documents that are whole or not there, and claims that only one can make."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from raylake.clock import Clock
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder, names, write_whole

FORMAT: Final = 1
KEEP_ANSWERS_S: Final = 60.0
MAX_ORDER_BYTES: Final = 65_536


class OrderFiles:
    """The folder of a pipeline's orders, their claims and their answers.

    Args:
        folder: The folder; it may not be there yet.
        clock: Time.
    """

    def __init__(self, folder: Place, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock
        self._mark = secrets.token_hex(8)

    def path(self, order_id: str, kind: str) -> Place:
        """Where an order's ``order``, ``claim`` or ``answer`` lies."""
        return self.folder / f"{order_id}.{kind}"

    def names(self) -> list[str]:
        """What lies there; nothing where there is no folder."""
        try:
            found = names(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        # Scratch files of a disk begin with a dot.
        return [name for name in found if name[0] != "."]

    def order_at(self, path: Place) -> dict[str, Any] | None:
        """As :func:`read`; empty too for what could not be read for long."""
        try:
            return read(path)
        except OSError:
            if self.kept(path):
                raise
            return {}

    def claimed(self, order_id: str, name: str, who: str) -> dict[str, Any] | None:
        """Claim an order; None when it is this box's now, else the claim that stands."""
        path = self.path(order_id, "claim")
        claim = {"by": who, "at": self._clock.now(), "name": name, "mark": self._mark}
        try:
            create(path, claim)
        except FileExistsError:
            # In a store it may be our own, put by a request whose answer was lost.
            stands = read(path) or {}
            ours = (stands.get("mark"), stands.get("by")) == (self._mark, who)
            return None if ours else stands
        return None

    def kept(self, path: Place) -> bool:
        """Whether it is too young to be removed."""
        return path.stat().st_mtime >= self._clock.now() - KEEP_ANSWERS_S


def write(path: Place, document: Mapping[str, Any]) -> None:
    """Replace a document, whole."""
    make_folder(path.parent)
    write_whole(path, json.dumps({"format": FORMAT, **document}, default=str))


def create(path: Place, document: Mapping[str, Any]) -> None:
    """Write a file where none is; only one can."""
    text = json.dumps({"format": FORMAT, **document})
    if isinstance(path, StorePath):
        path.create(text.encode())
        return
    make_folder(path.parent)
    with path.open("x") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:
            # An empty one would stand against everybody.
            path.unlink(missing_ok=True)
            raise


def read(path: Place) -> dict[str, Any] | None:
    """A document; empty for what is none, None where there is no file."""
    try:
        if path.stat().st_size > MAX_ORDER_BYTES:
            return {}
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    right = isinstance(document, dict) and document.get("format") == FORMAT
    return document if right else {}


def remove(path: Place) -> None:
    """Remove a file, or a folder that somebody left in its place, if it is empty."""
    if isinstance(path, Path) and path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def answer_at(path: Place) -> dict[str, Any] | None:
    """The answer, when there is one and it can be read now."""
    try:
        return read(path) or None
    except OSError:
        return None
