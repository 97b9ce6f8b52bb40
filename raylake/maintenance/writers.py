"""Who writes files anew: this process, or several of a cluster behind the same port."""

from __future__ import annotations

from typing import Protocol

from raylake.errors import RayLakeError
from raylake.tables.aside import Aside, Written, write_aside

Found = Written | RayLakeError


class Writers(Protocol):
    """Writes pieces aside, several at a time."""

    slots: int
    """So many pieces at once."""

    def begin(self, key: int, asked: Aside) -> None:
        """Begin a piece; returns at once where others do it.

        Args:
            key: By which it is told apart.
            asked: The piece.
        """
        ...

    def ended(self, timeout_s: float) -> list[tuple[int, Found]]:
        """Pieces that have ended; waits for one of those under way.

        Args:
            timeout_s: At most so long, in seconds.
        """
        ...


class WriterHere:
    """:class:`Writers` that is this process: one piece after the other."""

    slots = 1

    def __init__(self) -> None:
        self._ended: list[tuple[int, Found]] = []

    def begin(self, key: int, asked: Aside) -> None:
        """See :meth:`Writers.begin`; returns when it is done."""
        found: Found
        try:
            found = write_aside(asked)
        except RayLakeError as error:
            found = error
        self._ended.append((key, found))

    def ended(self, timeout_s: float) -> list[tuple[int, Found]]:
        """See :meth:`Writers.ended`."""
        del timeout_s
        found, self._ended = self._ended, []
        return found
