"""How far a Z-order has decayed: in how many files, on average, a point of its columns lies.

A file is the box of its smallest and greatest values. Where no boxes overlap, a point lies in one
file; where rows came in any order, in all of them. A point is taken in each box, at most 32 of a
set, at equal steps of their order, and each at another place between its corners. The share of the
points that lie in a file's box is the file's own part of the depth: the depth is the sum of the
shares, and what writing some files anew takes away is the sum of theirs, less one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.maintenance.statistics import Ranged

POINTS: Final = 32
_STEPS: Final = np.sqrt(np.array([5.0, 2.0, 3.0, 7.0])) / 2
_PREFIX: Final = 8
_ZEROS: Final = pa.scalar(bytes(_PREFIX), pa.large_binary())
_NOTHING: Final = pa.scalar(b"", pa.large_binary())

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def boxes(files: pa.Table, columns: tuple[Ranged, ...]) -> tuple[Floats, Floats]:
    """The lower and upper corners of files' boxes, one row a column; NaN where not known."""
    lows, highs = [], []
    for at, one in enumerate(columns):
        low, high = files.column(f"low_{at}"), files.column(f"high_{at}")
        if one.kind == "text":
            cut = _shared(low, high)
            lows.append(_text_number(low, cut))
            highs.append(_text_number(high, cut))
        else:
            lows.append(_numbers(low))
            highs.append(_numbers(high))
    return np.array(lows), np.array(highs)


def in_order(lows: Floats, highs: Floats, group: Places) -> Places:
    """The files by group, and within by their boxes; those without a box come last of a group."""
    keys = [key for low, high in zip(lows, highs, strict=True) for key in (low, high)]
    return np.asarray(np.lexsort([*reversed(keys), group]), np.int64)


def shares(lows: Floats, highs: Floats) -> Floats:
    """The part of each file of a set in the set's depth.

    Args:
        lows: Lower corners, one row a column, in the order of :func:`in_order`.
        highs: Upper corners.
    """
    count = lows.shape[1]
    known = np.flatnonzero(~np.isnan(lows + highs).any(axis=0))
    found = np.zeros(count, np.int64)
    if not len(known):
        return found.astype(np.float64)
    chosen = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), POINTS)).astype(int))]
    points = points_in(lows[:, chosen], highs[:, chosen])
    for point in points.T:
        inside = (lows[0] <= point[0]) & (point[0] <= highs[0])
        for low, high, value in zip(lows[1:], highs[1:], point[1:], strict=True):
            inside &= (low <= value) & (value <= high)
        found += inside
    return np.asarray(found / len(chosen), np.float64)


def points_in(lows: Floats, highs: Floats) -> Floats:
    """A point in each box; multiples of irrational numbers spread them, and differ by column."""
    steps = np.arange(1, lows.shape[1] + 1)
    at = np.modf(np.outer(_STEPS[: len(lows)], steps))[0]
    # Weighted, since the difference of two great values may be none.
    return np.asarray(np.clip(lows * (1 - at) + highs * at, lows, highs), np.float64)


def regions(lows: Floats, highs: Floats) -> Places:
    """Sets of files that hang together by overlaps: a number for each file.

    Between two regions there is a value of one of the columns that splits them. With one column
    regions are just the connected sets; with several, sets that no straight cut parts are one.
    """
    found = np.zeros(lows.shape[1], np.int64)
    before = 0
    while True:
        for low, high in zip(lows, highs, strict=True):
            found = _cut(low, high, found)
        if len(found) == 0 or found.max() == before:
            return found
        before = int(found.max())


def _cut(low: Floats, high: Floats, label: Places) -> Places:
    count = len(low)
    _, ranks = np.unique(np.concatenate([low, high]), return_inverse=True)
    width = len(ranks) + 1
    lows, highs = label * width + ranks[:count], label * width + ranks[count:]
    order = np.argsort(lows, kind="stable")
    reached = np.maximum.accumulate(highs[order])
    begins = np.zeros(count, np.int64)
    begins[1:] = (lows[order][1:] > reached[:-1]) | (label[order][1:] != label[order][:-1])
    found = np.empty(count, np.int64)
    found[order] = np.cumsum(begins)
    return found


def _numbers(values: pa.ChunkedArray) -> Floats:
    return np.asarray(values.to_numpy(), np.float64)


def _shared(low: pa.ChunkedArray, high: pa.ChunkedArray) -> int:
    """How many bytes all the texts begin with in common."""
    least, most = pc.min(low).as_py(), pc.max(high).as_py()
    if least is None or most is None:
        return 0
    pairs = zip(least.encode(), most.encode(), strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(least), len(most)))


def _text_number(values: pa.ChunkedArray, cut: int) -> Floats:
    """Texts as numbers that are in the same order, by the eight bytes after what they share."""
    if not len(values):
        return np.zeros(0)
    nulls = values.is_null().to_numpy()
    column: Any = pc.fill_null(values, "").cast(pa.large_binary())
    short = pc.binary_slice(column, cut, cut + _PREFIX)
    padded = pc.binary_join_element_wise(short, _ZEROS, _NOTHING)
    whole = pa.concat_arrays(
        [one for one in pc.binary_slice(padded, 0, _PREFIX).chunks if len(one)]
    )
    data = whole.buffers()[2]
    start = int(np.frombuffer(whole.buffers()[1], np.int64)[whole.offset])
    numbers = np.frombuffer(data, ">u8", len(whole), start).astype(np.float64)
    numbers[nulls] = np.nan
    return numbers
