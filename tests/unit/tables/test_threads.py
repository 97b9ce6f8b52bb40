"""Pieces of work on several threads."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from functools import partial

import pytest

from raylake.tables.threads import together


@pytest.mark.parametrize("threads", [1, 3])
def test_what_each_piece_came_to_is_in_their_order(threads: int) -> None:
    assert together([partial(pow, n, 2) for n in range(7)], threads) == [n * n for n in range(7)]


def test_as_many_run_at_once_as_there_are_threads() -> None:
    met = threading.Barrier(3, timeout=60)
    together([met.wait] * 3, 3)


def test_each_knows_what_its_caller_knew() -> None:
    told = contextvars.ContextVar("told", default="nothing")
    token = told.set("something")
    try:
        assert together([told.get] * 2, 2) == ["something"] * 2
    finally:
        told.reset(token)


def test_after_an_error_nothing_more_begins() -> None:
    done: list[int] = []

    def fails() -> None:
        raise OSError("no room")

    works: list[Callable[[], None]] = [fails, *(partial(done.append, n) for n in range(100))]
    with pytest.raises(OSError, match="no room"):
        together(works, 2)
    seen = len(done)
    assert seen <= 100
    assert done == list(range(seen))
