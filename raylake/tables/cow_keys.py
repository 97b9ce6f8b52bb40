"""Finding a source's rows by their keys: in files by statistics, in columns by hash."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
NO_ROW: Final = -1
_CUT_US: Final = 999
"""Writers cut the bounds of timestamps to milliseconds, the upper ones too."""


class SourceKeys:
    """The keys of a source, one row each.

    Args:
        rows: The source; every key has a value, in the table's type.
        keys: The merge keys.
    """

    def __init__(self, rows: pa.Table, keys: Sequence[str]) -> None:
        self.names = tuple(keys)
        self._columns = [_one_array(rows.column(key)) for key in keys]
        self._sorted: dict[str, Any] = {}
        if len(keys) > 1 and rows.num_rows:
            self._steps, self._row_of = _combined(self._columns)

    def matches(self, columns: Sequence[pa.ChunkedArray]) -> tuple[Positions, Positions]:
        """The rows of some key columns that the source has too, ascending, and its row of each."""
        if not len(self._columns[0]):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if len(columns) == 1:
            found = pc.index_in(columns[0], value_set=self._columns[0])
            there = np.flatnonzero(pc.is_valid(found).to_numpy())
            return there, pc.drop_null(found).to_numpy().astype(np.int64)
        rows = self._rows_of(columns)
        there = np.flatnonzero(rows != NO_ROW)
        return there, rows[there]

    def _rows_of(self, columns: Sequence[pa.ChunkedArray]) -> Positions:
        """For each row: the source's row with these keys, or ``NO_ROW``."""
        codes = _places(columns[0], self._steps[0][0])
        for column, (values, combinations) in zip(columns[1:], self._steps[1:], strict=True):
            code = _places(column, values)
            wanted = codes * len(values) + code
            at = np.searchsorted(combinations, wanted)
            at[at == len(combinations)] = 0
            known = (codes != NO_ROW) & (code != NO_ROW) & (combinations[at] == wanted)
            codes = np.where(known, at, NO_ROW)
        found = self._row_of[codes]
        found[codes == NO_ROW] = NO_ROW
        return found

    def within(self, key: str, low: pa.Array, high: pa.Array) -> Mask:
        """Which ranges hold a key of the source; one without bounds may hold any.

        Args:
            key: The key column.
            low: The least value of each range, null where it is not known.
            high: The greatest value of each range.
        """
        column = self._columns[self.names.index(key)]
        bounds = [_sortable(one, column.type) for one in (low, high)]
        if any(one is None for one in bounds):
            return np.ones(len(low), dtype=bool)
        if key not in self._sorted:
            values = _sortable(column, column.type)
            self._sorted[key] = sorted(values) if isinstance(values, list) else np.sort(values)
        values, (lows, highs) = self._sorted[key], bounds
        unknown = np.asarray(pc.or_(pc.is_null(low), pc.is_null(high)))
        if isinstance(values, list):
            # A text without bounds stands as "", which no answer is taken from.
            first = [bisect.bisect_left(values, one or "") for one in lows]
            last = [bisect.bisect_right(values, one or "") for one in highs]
            return np.asarray((np.asarray(first) < np.asarray(last)) | unknown, dtype=bool)
        if pa.types.is_timestamp(column.type):
            highs = highs + _CUT_US
        first, last = np.searchsorted(values, lows), np.searchsorted(values, highs, side="right")
        return np.asarray((first < last) | unknown, dtype=bool)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _places(column: pa.ChunkedArray, values: pa.Array) -> Positions:
    found = pc.index_in(column, value_set=values)
    return np.asarray(pc.fill_null(found, NO_ROW).to_numpy(), dtype=np.int64)


def _combined(columns: Sequence[pa.Array]) -> tuple[list[tuple[pa.Array, Positions]], Positions]:
    """Codes for combinations of values, column by column, and the row of each last code."""
    encoded = [column.dictionary_encode() for column in columns]
    codes = encoded[0].indices.to_numpy().astype(np.int64)
    steps = [(encoded[0].dictionary, codes)]
    for one in encoded[1:]:
        combined = codes * len(one.dictionary) + one.indices.to_numpy()
        combinations, codes = np.unique(combined, return_inverse=True)
        steps.append((one.dictionary, combinations))
    row_of = np.empty(len(codes), dtype=np.int64)
    row_of[codes] = np.arange(len(codes))
    return steps, row_of


def _sortable(column: pa.Array, kind: pa.DataType) -> Any:
    """The values as integers or texts, whatever stands for null; None for types without bounds."""
    if not column.type.equals(kind):
        return None
    if pa.types.is_integer(kind):
        return np.asarray(pc.fill_null(column, 0).cast(pa.int64()))
    if pa.types.is_date32(kind):
        return np.asarray(pc.fill_null(column.cast(pa.int32()), 0).cast(pa.int64()))
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return np.asarray(pc.fill_null(column.cast(pa.int64()), 0))
    return column.to_pylist() if pa.types.is_string(kind) else None
