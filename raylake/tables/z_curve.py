"""The Z-order curve: one number for several columns, near where all of them are near.

Each column's values are replaced by their rank among quantiles of a sample, so that each bit of
the curve halves the rows, whatever the values' spread. The ranks' bits are then interleaved
(G. M. Morton, 1966).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_COLUMNS: Final = 4
RANK_BITS: Final = 16
_PREFIX_BYTES: Final = 64
_WORD_BYTES: Final = 8
_ENOUGH: Final = 1024
"""So many ranks of a text are told apart, or it is compared whole."""
_STRANGERS: Final = 100
"""One in so many texts, at either end, may begin in another way than the others."""

Ranks = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The borders of one column's ranks, ascending.

    Attributes:
        borders: A value's rank grows with the number of borders at or below it; null has 0.
        prefix: What texts begin with, that are told apart by the eight bytes behind it; None:
            values are compared whole, texts by their first 64 bytes.
    """

    borders: npt.NDArray[Any]
    prefix: bytes | None = None

    def ranks(self, column: pa.Array | pa.ChunkedArray) -> Ranks:
        """The rank of each value; equal values have equal ranks, larger ones none smaller."""
        prefix = self.prefix
        values = sortable(column) if prefix is None else _behind(_whole(column), prefix)
        place = _places(self.borders, values)
        # Few values are spread over all bits, or a column of them would have no say.
        count = max(1, len(self.borders))
        rank_of = np.arange(count, dtype=np.uint64) * np.uint64(2**RANK_BITS - 2)
        rank_of = rank_of // np.uint64(max(1, count - 1)) + np.uint64(1)
        found: Ranks = rank_of[np.maximum(place, 1) - 1]
        if column.null_count:
            found[column.is_null().to_numpy(zero_copy_only=False)] = 0
        return found


def quantiles(sample: pa.Array | pa.ChunkedArray) -> Quantiles:
    """Borders at equal numbers of a sample's values, below 2 ** 16 of them."""
    present = _whole(sample.drop_null())
    values = np.sort(sortable(present))
    if not len(values):
        return Quantiles(values)
    places = np.linspace(0, len(values) - 1, min(len(values), 2**RANK_BITS - 2)).astype(np.int64)
    borders = np.unique(values[places])
    if _is_bytes(sample.type):
        # Numbers are found many times faster than texts. The ends may be strangers.
        at = len(values) // _STRANGERS
        prefix = _in_common(bytes(values[at]), bytes(values[-1 - at]))
        words = np.unique(np.sort(_behind(present, prefix))[places])
        if len(words) >= min(len(borders), _ENOUGH):
            return Quantiles(words, prefix)
    return Quantiles(borders)


def interleaved(ranks: Sequence[Ranks]) -> Ranks:
    """The place on the curve, from one rank a column; the first column's bits are the highest.

    Args:
        ranks: Arrays of one length, below 2 ** 16; at most four.
    """
    columns = len(ranks)
    apart = _apart(columns)
    found = np.zeros(len(ranks[0]), np.uint64)
    for place, one in enumerate(ranks):
        found |= apart[one] << np.uint64(columns - 1 - place)
    return found


@functools.cache
def _apart(columns: int) -> Ranks:
    """Of each rank, its bits so far apart that those of other columns have room between them."""
    ranks = np.arange(2**RANK_BITS, dtype=np.uint64)
    found = np.zeros(2**RANK_BITS, np.uint64)
    for bit in range(RANK_BITS):
        found |= ((ranks >> np.uint64(bit)) & np.uint64(1)) << np.uint64(bit * columns)
    return found


def orderable(kind: pa.DataType) -> bool:
    """Whether values of a type can lie on the curve."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
        or types.is_date(kind)
        or types.is_timestamp(kind)
        or _is_bytes(kind)
    )


def sortable(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """The values as an array that NumPy sorts; texts by their first 64 bytes, null as anything."""
    column = _whole(column)
    kind = column.type
    if _is_bytes(kind):
        short = pc.binary_slice(pc.fill_null(column.cast(pa.large_binary()), b""), 0, _PREFIX_BYTES)
        return np.array(short.to_pylist(), dtype=f"S{_PREFIX_BYTES}")
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        column = column.cast(pa.float64()) if pa.types.is_decimal(kind) else column.cast(pa.int8())
    elif pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    return np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _places(borders: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """How many borders lie at or below each value."""
    if values.dtype.kind == "S":
        return np.searchsorted(borders, values, side="right")
    # Values in their order are found in a third of the time, the sorting included.
    order = np.argsort(values)
    found = np.empty(len(values), np.intp)
    found[order] = np.searchsorted(borders, values[order], side="right")
    return found


def _in_common(one: bytes, other: bytes) -> bytes:
    """What both begin with."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return one[: sum(1 for _ in same)]


def _behind(column: pa.Array, prefix: bytes) -> Ranks:
    """The eight bytes behind a prefix as a number; of texts that begin otherwise, an end's."""
    if not len(column):
        return np.empty(0, np.uint64)
    large = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    _, places, data = column.buffers()
    all_ends: npt.NDArray[Any] = np.frombuffer(places, np.int64 if large else np.int32)
    ends = all_ends[column.offset : column.offset + len(column) + 1].astype(np.int64)
    low, high = int(ends[0]), int(ends[-1])
    padded = np.zeros(high - low + len(prefix) + _WORD_BYTES, np.uint8)
    if data is not None:
        padded[: high - low] = np.frombuffer(data, np.uint8)[low:high]
    begins = ends[:-1] - low + len(prefix)
    # A number begins at each byte.
    numbers = np.ndarray(len(padded) - _WORD_BYTES + 1, "<u8", padded, strides=(1,))
    found: Ranks = numbers[begins].byteswap()
    missing = _WORD_BYTES - np.clip(ends[1:] - low - begins, 0, _WORD_BYTES)
    # In two steps: a shift by all 64 bits is none.
    half = (missing * 4).astype(np.uint64)
    found = found >> half >> half << half << half
    strange = pc.invert(pc.starts_with(column, prefix)).fill_null(False)
    at = np.flatnonzero(strange.to_numpy(zero_copy_only=False))
    if len(at):
        plain = column.take(pa.array(at)).cast(pa.large_binary())
        below = pc.less(plain, pa.scalar(prefix, pa.large_binary()))
        ends_of_all = np.array([2**64 - 1, 0], np.uint64)
        found[at] = ends_of_all[below.to_numpy(zero_copy_only=False).astype(np.intp)]
    return found


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
