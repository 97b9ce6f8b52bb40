"""Puts what overtook each other on its way back into the order in which it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """Gives each thing out once, in the order of its number, from :meth:`begin` on.

    Not thread-safe. Numbers begin with 0 and leave none out; one that is lost keeps all later ones
    back, so a sender that cannot tell whether something arrived must give the receiver up.
    """

    def __init__(self) -> None:
        self._early: dict[int, T] = {}
        self._next = 0
        self._begun = False

    def begin(self) -> Iterator[T]:
        """Begin to give out; yields what came before and has its turn."""
        self._begun = True
        return self._due()

    def take(self, number: int, thing: T) -> Iterator[T]:
        """Take one in; yields those that have their turn now."""
        self._early[number] = thing
        return self._due()

    def _due(self) -> Iterator[T]:
        while self._begun and self._next in self._early:
            thing = self._early.pop(self._next)
            self._next += 1
            yield thing
