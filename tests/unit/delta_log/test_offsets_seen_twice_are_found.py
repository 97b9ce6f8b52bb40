from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylake.delta.verify_offsets import BLOCK_BYTES, BLOCK_OFFSETS, Coverage, OffsetSet

EDGES = st.one_of(
    st.integers(0, 40),
    st.integers(BLOCK_OFFSETS - 20, BLOCK_OFFSETS + 20),
    st.integers(2**40, 2**40 + 20),
)
BATCHES = st.lists(st.tuples(st.sampled_from("ab"), st.lists(EDGES, max_size=30)), max_size=8)


def array(offsets: list[int]) -> np.ndarray:
    return np.array(offsets, np.int64)


@given(BATCHES, st.integers(1, 4))
def test_every_repetition_is_found_once_whatever_the_memory(
    batches: list[tuple[str, list[int]]], blocks: int
) -> None:
    counts: Counter[tuple[str, int]] = Counter()
    for key, offsets in batches:
        counts.update((key, o) for o in offsets)
    expected = Counter({at: n - 1 for at, n in counts.items() if n > 1})

    seen = OffsetSet(blocks * BLOCK_BYTES)
    found: Counter[tuple[str, int]] = Counter()
    passes = 0
    while True:
        passes += 1
        for key, offsets in batches:
            found.update((key, o) for o in seen.add(key, array(offsets)).tolist())
        if not seen.next_pass():
            break
    assert found == expected
    used = {(key, o // BLOCK_OFFSETS) for key, o in counts}
    assert passes == max(1, -(-len(used) // blocks))


def test_planes_of_a_key_are_sets_of_their_own() -> None:
    seen = OffsetSet()
    assert seen.add("a", array([1, 2, 9])).tolist() == []
    assert seen.add("a", array([2, 9]), plane="dead").tolist() == []
    assert seen.add("a", array([9, 10]), plane="dead").tolist() == [9]
    assert seen.contains("a", array([1, 2, 3, 9, 10]), "dead").tolist() == [
        False, True, False, True, True,
    ]  # fmt: skip
    assert seen.contains("b", array([1])).tolist() == [False]


@pytest.mark.parametrize(("offset", "times"), [(0, 1), (5, 2), (9, 2), (10, 1), (20, 0)])
def test_coverage_counts_the_incarnations_that_hold_an_offset(offset: int, times: int) -> None:
    covered = Coverage([(0, 20), (5, 10)])
    assert covered.of(array([offset])).tolist() == [times]
    assert str(covered) == "[0, 20), [5, 10)"


@given(BATCHES, BATCHES)
def test_what_is_in_one_plane_alone_is_told_by_its_ends(
    before: list[tuple[str, list[int]]], after: list[tuple[str, list[int]]]
) -> None:
    seen = OffsetSet()
    left: dict[str, set[int]] = {}
    for plane, batches in (("before", before), ("after", after)):
        for key, offsets in batches:
            seen.add(key, array(offsets), plane)
            held = left.setdefault(key, set())
            if plane == "before":
                held.update(offsets)
            else:
                held.difference_update(offsets)
    expected = {key: (min(held), max(held)) for key, held in left.items() if held}
    assert seen.extents("before", "after") == expected
