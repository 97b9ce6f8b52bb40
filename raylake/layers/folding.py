"""One event a key: the greatest one, whatever order events come in.

Events are put in order by the columns that order them (no value is the least), then a delete is
greater than a row, then the greater row counts, column by column in the table's order (no value is
the least, then NaN; what is nested by how it is written). So only events that are equal in
everything are left to chance, and it makes no difference which of them counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.verify_offsets import Mask

Codes = np.ndarray[Any, np.dtype[np.int64]]
DELETED: Final = "raylake_deleted"
"""A column of events: whether it deletes its key."""
_PLACE: Final = "raylake_place"


def events_of(rows: pa.Table, deletes: pa.Table) -> pa.Table:
    """Rows and deletes of the same columns, with :data:`DELETED`."""
    flags = np.repeat([False, True], [rows.num_rows, deletes.num_rows])
    both = pa.concat_tables([rows, deletes]) if deletes.num_rows else rows
    return both.append_column(DELETED, pa.array(flags))


def key_codes(rows: pa.Table, keys: Sequence[str]) -> Codes:
    """A number for each row, equal where all keys are; from 0 on, without gaps."""
    found: Codes | None = None
    for name in keys:
        codes = _codes(rows.column(name))
        if found is None:
            found = codes
        else:
            # Fewer than 2**31 of either: the product fits.
            both = pa.array(found * (int(codes.max(initial=0)) + 1) + codes)
            found = _codes(both)
    if found is None:
        raise ValueError("no keys are given")
    return found


def greatest(
    events: pa.Table, keys: Sequence[str], order: Sequence[str], *, deletes_last: bool = True
) -> pa.Table:
    """The greatest event of each key, in the order that they came in.

    Args:
        events: With :data:`DELETED`; every key has a value.
        keys: What a thing is known by.
        order: The columns that order events, the first one first.
        deletes_last: Whether of equal ones a delete is greater than a row, or less.
    """
    if events.num_rows < 2:
        return events
    codes = key_codes(events, keys)
    counts = np.bincount(codes)
    if counts.max(initial=0) < 2:
        return events
    kept: Mask = counts[codes] == 1
    rest = np.flatnonzero(~kept)
    others = [n for n in events.column_names if n not in (*keys, *order, DELETED)]
    for name in (*order, DELETED, *others):
        column = events.column(name)
        if name == DELETED and not deletes_last:
            column = pc.invert(column)
        rest = _greatest_by(column, codes, rest)
        alone = np.bincount(codes[rest], minlength=len(counts))[codes[rest]] == 1
        kept[rest[alone]] = True
        rest = rest[~alone]
        if not len(rest):
            break
    else:
        # Equal in everything: the first of them.
        _, first = np.unique(codes[rest], return_index=True)
        kept[rest[first]] = True
    return events.filter(pa.array(kept))


def held_against(
    events: pa.Table, remembered: pa.Table, keys: Sequence[str], order: Sequence[str]
) -> Mask:
    """For each event whether what is remembered of its key is greater, or as great.

    Args:
        events: Events, at most one of each key.
        remembered: Keys, and what orders them; likewise.
        keys: What a thing is known by.
        order: The columns that order events.
    """
    count = events.num_rows
    older = np.zeros(count, dtype=bool)
    if not count or not remembered.num_rows:
        return older
    both = _stacked(events, remembered, [*keys, *order])
    codes = key_codes(both, keys)
    counts = np.bincount(codes)
    rest = np.flatnonzero(counts[codes] > 1)
    older[rest[rest < count]] = True
    for name in order:
        rest = _greatest_by(both.column(name), codes, rest)
    # Where both sides are left they are equal; an event that is left alone is greater.
    alone = np.bincount(codes[rest], minlength=len(counts))[codes[rest]] == 1
    winners = rest[alone]
    older[winners[winners < count]] = False
    return older


def of_keys(rows: pa.Table, wanted: pa.Table, keys: Sequence[str]) -> Mask:
    """For each row whether its keys are among the wanted ones."""
    if not rows.num_rows or not wanted.num_rows:
        return np.zeros(rows.num_rows, dtype=bool)
    if len(keys) == 1:
        column = wanted.column(keys[0])
        found = pc.is_in(rows.column(keys[0]), value_set=pa.concat_arrays(column.chunks))
        return np.array(found.to_numpy(), dtype=bool)
    codes = key_codes(_stacked(rows, wanted, keys), keys)
    there = np.zeros(int(codes.max()) + 1, dtype=bool)
    there[codes[rows.num_rows :]] = True
    return there[codes[: rows.num_rows]]


def distinct(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The keys of some rows, each once."""
    found = rows.select(list(keys))
    if found.num_rows < 2:
        return found
    _, first = np.unique(key_codes(found, keys), return_index=True)
    return found.take(pa.array(np.sort(first)))


def _stacked(first: pa.Table, second: pa.Table, names: Sequence[str]) -> pa.Table:
    """Columns of two tables, one below the other; NOT NULL does not matter."""
    pairs = {name: [*first.column(name).chunks, *second.column(name).chunks] for name in names}
    return pa.table(
        {name: pa.chunked_array(c, first.schema.field(name).type) for name, c in pairs.items()}
    )


def _codes(column: pa.Array | pa.ChunkedArray) -> Codes:
    array = column
    if isinstance(column, pa.ChunkedArray):
        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks)
    found = array.dictionary_encode(null_encoding="encode")
    return np.asarray(found.indices.to_numpy(zero_copy_only=False)).astype(np.int64)


def _greatest_by(column: pa.ChunkedArray, codes: Codes, rows: Codes) -> Codes:
    """Of some rows, those with the greatest value of their key."""
    if not len(rows):
        return rows
    for ranks in _ranks(column.take(pa.array(rows))):
        of = codes[rows]
        best = np.full(int(codes.max()) + 1, np.iinfo(np.int64).min)
        np.maximum.at(best, of, ranks)
        chosen = ranks == best[of]
        if not chosen.all():
            return _greatest_by(column, codes, rows[chosen])
    return rows


def _ranks(column: pa.ChunkedArray) -> list[Codes]:
    """Numbers that grow with the values; those of the first list count before the next one's."""
    found = []
    if column.null_count:
        found.append(column.is_valid().to_numpy().astype(np.int64))
    kind = column.type
    if pa.types.is_floating(kind):
        nan = pc.fill_null(pc.is_nan(column), False)
        found.append((~np.array(nan.to_numpy(), dtype=bool)).astype(np.int64))
        column = pc.if_else(nan, pa.scalar(0, kind), column)
    return [*found, _numbers(column, kind)]


def _numbers(column: pa.ChunkedArray, kind: pa.DataType) -> Codes:
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(pc.fill_null(column.cast(pa.int64()), 0).to_numpy())
    if pa.types.is_timestamp(kind):
        return np.asarray(pc.fill_null(column.cast(pa.int64()), 0).to_numpy())
    if pa.types.is_date(kind):
        return np.asarray(pc.fill_null(column.cast(pa.int32()).cast(pa.int64()), 0).to_numpy())
    if pa.types.is_nested(kind):
        column = pa.chunked_array([pa.array([repr(one) for one in column.to_pylist()])])
    ranks = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
    return np.asarray(ranks.to_numpy(zero_copy_only=False)).astype(np.int64)
