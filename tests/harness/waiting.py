"""Waiting by condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


class NotInTimeError(AssertionError):
    """A condition did not hold in time."""


def until(condition: Callable[[], T], what: str, timeout_s: float = 60.0) -> T:
    """The condition's first true answer.

    Raises:
        NotInTimeError: There was none within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise NotInTimeError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)
