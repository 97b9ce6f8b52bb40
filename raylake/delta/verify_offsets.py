"""Sets of offsets in bounded memory: which were seen, and which twice."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Block = npt.NDArray[np.uint8]

BLOCK_OFFSETS = 1 << 20
BLOCK_BYTES = BLOCK_OFFSETS // 8
DEFAULT_BUDGET_BYTES = 256 * 1024 * 1024

_NONE: Offsets = np.empty(0, np.int64)


class OffsetSet:
    """Offsets of many partitions as bits, a block of 2^20 at a time.

    Offsets of a partition lie close together, so a bit each costs an eighth of a byte: the default
    budget holds two thousand million of them. What would exceed the budget is left to another pass:
    its blocks are refused, and :meth:`next_pass` frees those that are done.

    Args:
        budget_bytes: Memory for the blocks.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._most = max(1, budget_bytes // BLOCK_BYTES)
        self._blocks: dict[tuple[Hashable, int], dict[Hashable, Block]] = {}
        self._done: set[tuple[Hashable, int]] = set()
        self._left_out = False

    def add(self, key: Hashable, offsets: Offsets, plane: Hashable = 0) -> Offsets:
        """Add offsets (not negative) of one partition; returns those that were in already.

        An offset that stands ``n`` times in ``offsets`` and was not in comes back ``n - 1`` times.
        Planes of one key are sets of their own that are left to another pass together.
        """
        ordered = np.sort(offsets)
        again = []
        for number in np.unique(ordered // BLOCK_OFFSETS).tolist():
            block = self._block((key, number), plane)
            if block is None:
                continue
            first = number * BLOCK_OFFSETS
            low, high = np.searchsorted(ordered, [first, first + BLOCK_OFFSETS])
            again.append(_add(block, ordered[low:high] - first) + first)
        return np.concatenate(again) if again else _NONE

    def contains(self, key: Hashable, offsets: Offsets, plane: Hashable = 0) -> Mask:
        """Which of the offsets are in; False for those of blocks that this pass leaves out."""
        found = np.zeros(len(offsets), np.bool_)
        numbers = offsets // BLOCK_OFFSETS
        for number in np.unique(numbers).tolist():
            block = self._blocks.get((key, number), {}).get(plane)
            if block is not None:
                where = numbers == number
                inside = offsets[where] - number * BLOCK_OFFSETS
                found[where] = (block[inside >> 3] >> (inside & 7).astype(np.uint8)) & 1
        return found

    def extents(self, plane: Hashable, without: Hashable) -> dict[Hashable, tuple[int, int]]:
        """By key the least and the greatest offset that is in one plane and not in another.

        Of the blocks of this pass.
        """
        found: dict[Hashable, tuple[int, int]] = {}
        for (key, number), planes in self._blocks.items():
            block, other = planes.get(plane), planes.get(without)
            if block is None:
                continue
            left = block if other is None else block & ~other
            places = np.flatnonzero(left)
            if len(places):
                low, high = int(places[0]), int(places[-1])
                lowest = low * 8 + (int(left[low]) & -int(left[low])).bit_length() - 1
                highest = high * 8 + int(left[high]).bit_length() - 1
                first = number * BLOCK_OFFSETS
                known = found.get(key, (first + lowest, first + highest))
                found[key] = (min(known[0], first + lowest), max(known[1], first + highest))
        return found

    def next_pass(self) -> bool:
        """Free what this pass held; whether another one is needed, over the same input."""
        self._done.update(self._blocks)
        self._blocks.clear()
        needed, self._left_out = self._left_out, False
        return needed

    def _block(self, at: tuple[Hashable, int], plane: Hashable) -> Block | None:
        planes = self._blocks.get(at)
        if planes is None:
            if at in self._done:
                return None
            if len(self._blocks) >= self._most:
                self._left_out = True
                return None
            planes = self._blocks[at] = {}
        block = planes.get(plane)
        if block is None:
            block = planes[plane] = np.zeros(BLOCK_BYTES, np.uint8)
        return block


def _add(block: Block, ordered: Offsets) -> Offsets:
    repeated = np.zeros(len(ordered), np.bool_)
    repeated[1:] = ordered[1:] == ordered[:-1]
    first = int(ordered[0]) & ~7
    bits = np.zeros(int(ordered[-1]) - first + 1, np.uint8)
    bits[ordered - first] = 1
    packed = np.packbits(bits, bitorder="little")
    part = block[first >> 3 : (first >> 3) + len(packed)]
    if np.any(part & packed):
        was_in = (block[ordered >> 3] >> (ordered & 7).astype(np.uint8)) & 1
        repeated |= was_in.astype(np.bool_)
    part |= packed
    return ordered[repeated]


class Coverage:
    """How many incarnations of a partition hold an offset: a topic created again starts at 0 anew.

    Args:
        ranges: ``(origin, next)`` of each incarnation of one topic's partition.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._ranges = tuple(ranges)

    def of(self, offsets: Offsets) -> Offsets:
        """The number for each offset."""
        total = np.zeros(len(offsets), np.int64)
        for origin, end in self._ranges:
            total += (offsets >= origin) & (offsets < end)
        return total

    def __str__(self) -> str:
        return ", ".join(f"[{origin}, {end})" for origin, end in self._ranges)
