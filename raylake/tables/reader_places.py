"""Where named readers of a table stand: small documents in the lake, each written once.

A reader's folder holds ``0000000001.json``, ``0000000002.json``, …; the highest number counts. The
next one is put where none is, in one step, so of two processes under one name the second is told,
and a crash leaves the old place or the new one, whole. Older ones are removed, but never the
highest: who writes a number that was removed meanwhile sees a higher one right after it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from raylake.errors import Refused
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, create_whole, names
from raylake.storage.reach import explained
from raylake.tables.errors import ReaderLost, ReaderMoved

FORMAT: Final = 1
KEPT: Final = 3
"""Documents that are left, the newest included."""
_NAME: Final = re.compile(r"(\d{10})\.json")


@dataclass(frozen=True, slots=True)
class ReaderPlace:
    """Where a reader stands.

    Attributes:
        table_id: The table's id: one that was created again is another table.
        version: All versions up to this one are read.
        number: Of the document; 0 before the first.
        mark: Tells two writers of one number apart.
    """

    table_id: str
    version: int
    number: int = 0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)


class ReaderPlaces:
    """The places of one reader.

    Args:
        folder: The reader's folder; it may not be there yet.
    """

    def __init__(self, folder: Place) -> None:
        self._folder = folder

    def last(self) -> ReaderPlace | None:
        """Where the reader stands; None before its first commit.

        Raises:
            ReaderLost: The document is none.
            DependencyUnreachable, ConfigError: The store does not answer, or refuses.
        """
        while True:
            with _told(self._folder):
                numbers = self._numbers()
                if not numbers:
                    return None
                at = self._at(numbers[-1])
                try:
                    text = at.read_text(encoding="utf-8")
                except FileNotFoundError:
                    continue
            return _parsed(at, text, numbers[-1])

    def put(self, place: ReaderPlace) -> None:
        """Make a place the reader's newest; again with the same place does nothing.

        Args:
            place: With the number after that of the place it follows.

        Raises:
            ReaderMoved: Another process has put that number.
            Refused, DependencyUnreachable, ConfigError: It cannot be written.
        """
        document = {
            "format": FORMAT,
            "table_id": place.table_id,
            "version": place.version,
            "mark": place.mark,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with _told(self._folder):
            mine = self._is(place) or create_whole(self._at(place.number), json.dumps(document))
            numbers = self._numbers()
            if not mine or numbers[-1] > place.number:
                if mine and numbers[-1] - place.number >= KEPT:
                    self._at(place.number).unlink(missing_ok=True)
                raise self._moved()
            for old in numbers[:-KEPT]:
                self._at(old).unlink(missing_ok=True)

    def _is(self, place: ReaderPlace) -> bool:
        try:
            text = self._at(place.number).read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        return _parsed(self._at(place.number), text, place.number).mark == place.mark

    def _moved(self) -> ReaderMoved:
        return ReaderMoved(
            f"{self._folder}: another process has moved this reader on; what was read here was "
            "read there too",
            hint="give each process a reader of its own name, or let one alone use it",
        )

    def _numbers(self) -> list[int]:
        try:
            found = names(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(match[1]) for name in found if (match := _NAME.fullmatch(name)))

    def _at(self, number: int) -> Place:
        return self._folder / f"{number:010}.json"


def _parsed(at: Place, text: str, number: int) -> ReaderPlace:
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}")  # noqa: TRY301
        return ReaderPlace(
            str(document["table_id"]), int(document["version"]), number, str(document["mark"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ReaderLost(
            f"{at} is not the place of a reader: {error}",
            hint="reset the reader: reader.reset('all'), 'latest' or a version",
        ) from error


@contextmanager
def _told(folder: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(folder, StorePath):
            raise explained(folder, error) from error
        raise Refused(
            f"{folder}: the reader's place cannot be read or written: {error.strerror or error}",
            hint="may this user write into the lake?",
        ) from error
