"""The Z-order curve: one number for several columns, near where all of them are near.

Each column's values are replaced by their rank among quantiles of a sample, so that each bit of
the curve halves the rows, whatever the values' spread. The ranks' bits are then interleaved
(G. M. Morton, 1966).
"""

from __future__ import annotations

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

Ranks = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The borders of one column's ranks, ascending.

    Attributes:
        borders: A value's rank grows with the number of borders at or below it; null has 0.
    """

    borders: npt.NDArray[Any]

    def ranks(self, column: pa.Array | pa.ChunkedArray) -> Ranks:
        """The rank of each value; equal values have equal ranks, larger ones none smaller."""
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        place = np.searchsorted(self.borders, sortable(column), side="right")
        found = np.maximum(place, 1).astype(np.uint64) - np.uint64(1)
        # Few values are spread over all bits, or a column of them would have no say.
        found = found * np.uint64(2**RANK_BITS - 2) // np.uint64(max(1, len(self.borders) - 1))
        found += np.uint64(1)
        found[nulls] = 0
        return found


def quantiles(sample: pa.Array | pa.ChunkedArray) -> Quantiles:
    """Borders at equal numbers of a sample's values, below 2 ** 16 of them."""
    values = np.sort(sortable(sample.drop_null()))
    if not len(values):
        return Quantiles(values)
    count = min(len(values), 2**RANK_BITS - 2)
    places = np.linspace(0, len(values) - 1, count).astype(np.int64)
    return Quantiles(np.unique(values[places]))


def interleaved(ranks: Sequence[Ranks]) -> Ranks:
    """The place on the curve, from one rank a column; the first column's bits are the highest.

    Args:
        ranks: Arrays of one length, below 2 ** 16; at most four.
    """
    found = np.zeros(len(ranks[0]), np.uint64)
    columns = len(ranks)
    for bit in range(RANK_BITS):
        for place, one in enumerate(ranks):
            at = bit * columns + (columns - 1 - place)
            found |= ((one >> np.uint64(bit)) & np.uint64(1)) << np.uint64(at)
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
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
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
