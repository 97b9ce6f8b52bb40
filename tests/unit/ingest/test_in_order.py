"""Commands that overtake each other are done in the order in which they were sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raylake.ingest.in_order import InOrder


@given(st.permutations(range(8)), st.integers(0, 8))
def test_whatever_the_order_of_arrival_the_order_of_sending_is_kept(
    arrivals: list[int], before: int
) -> None:
    commands: InOrder[str] = InOrder()
    done: list[str] = []
    for place, number in enumerate(arrivals):
        if place == before:
            done += commands.begin()
        done += commands.take(number, f"command {number}")
        if place < before:
            assert not done
    done += commands.begin()
    assert done == [f"command {number}" for number in range(8)]


def test_one_that_fails_is_not_done_again() -> None:
    commands: InOrder[int] = InOrder()
    list(commands.take(0, 0))
    list(commands.take(1, 1))
    due = commands.begin()
    assert next(due) == 0
    assert list(commands.take(2, 2)) == [1, 2]
