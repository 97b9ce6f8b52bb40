"""Merge keys of a source: checked, made unique in one pass, and their range for pruning files."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from raylake.config.findings import did_you_mean
from raylake.tables.errors import (
    BadMergeKeys,
    DuplicateMergeKeys,
    NullMergeKeys,
    UnknownColumn,
)
from raylake.tables.expressions import quoted

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.int64]]

SHOWN_KEYS: Final = 3
_YEARS: Final = (1700, 2200)
"""Years whose nanoseconds fit 64 bits: DataFusion casts times to those."""


def check_keys(keys: Sequence[str], source: pa.Schema, target: pa.Schema, where: str) -> None:
    """Refuse keys that are none, named twice, not on both sides, or of a type without equality.

    Raises:
        BadMergeKeys: Naming the key.
    """
    if not keys:
        raise BadMergeKeys(f"{where}: no merge keys are given", hint="name at least one column")
    if len(set(keys)) < len(keys):
        raise BadMergeKeys(f"{where}: a merge key is named twice: {', '.join(keys)}")
    for key in keys:
        for side, schema in (("source", source), ("table", target)):
            if key not in schema.names:
                raise BadMergeKeys(
                    f"{where}: the {side} has no column {key!r} to merge by",
                    hint=did_you_mean(key, schema.names),
                    column=key,
                )
        kind = target.field(key).type
        if pa.types.is_nested(kind) or pa.types.is_floating(kind):
            raise BadMergeKeys(
                f"{where}: {key!r} is {kind}: no two such values are surely equal",
                hint="merge by strings, integers, decimals, dates or timestamps",
                column=key,
            )


def refuse_null_keys(rows: pa.Table, keys: Sequence[str], where: str) -> None:
    """Refuse rows without a value in a merge key.

    Raises:
        NullMergeKeys: Naming the key and how many rows.
    """
    for key in keys:
        missing = rows.column(key).null_count
        if missing:
            raise NullMergeKeys(
                f"{where}: {missing} of {rows.num_rows} rows of the source have no value in the "
                f"merge key {key!r}",
                hint="fill the key, or leave these rows out",
                column=key,
                rows=missing,
            )


def one_row_a_key(
    rows: pa.Table, keys: Sequence[str], sequence_by: Sequence[str], where: str
) -> pa.Table:
    """The last row of each key; rows are put in the order of their keys where any is dropped.

    Args:
        rows: The source; every key has a value.
        keys: The merge keys.
        sequence_by: What orders rows of one key; no value is the least.
        where: For messages.

    Raises:
        DuplicateMergeKeys: Nothing orders two rows of a key, or they are equal in what does and
            differ in something else.
        UnknownColumn: The source lacks a column of ``sequence_by``.
    """
    for name in sequence_by:
        if name not in rows.schema.names:
            raise UnknownColumn(
                f"{where}: the source has no column {name!r} (sequence_by)",
                hint=did_you_mean(name, rows.schema.names),
                column=name,
            )
    if rows.num_rows < 2:
        return rows
    # Descending, so that the last one comes first and rows without a value come last.
    order = pc.sort_indices(
        rows,
        sort_keys=[
            *((name, "ascending") for name in keys),
            *((name, "descending") for name in sequence_by),
        ],
    )
    ordered = rows.take(order)
    same_key = repeats(ordered, keys)
    if not same_key.any():
        return rows
    if not sequence_by:
        raise _duplicates(ordered, same_key, keys, where, "")
    counts = np.append(True, ~same_key)
    same_place = same_key & repeats(ordered, sequence_by)
    # Places taken since the key's first row: none are those that share the first one's place.
    steps = np.append(0, np.cumsum(same_key & ~same_place))
    first = steps == np.maximum.accumulate(np.where(counts, steps, 0))
    ties = same_place & first[:-1]
    if ties.any():
        ties &= ~repeats(ordered, ordered.schema.names)
    if ties.any():
        raise _duplicates(ordered, ties, keys, where, f" and one {', '.join(sequence_by)}")
    return ordered.filter(pa.array(counts))


def repeats(ordered: pa.Table, columns: Sequence[str]) -> Mask:
    """For each row but the first: whether the row before it has the same values there.

    No value is the same as no value, and NaN as NaN.
    """
    same = np.ones(max(0, ordered.num_rows - 1), dtype=bool)
    for name in columns:
        column = ordered.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        if len(same):
            same &= alike(column.slice(0, len(column) - 1), column.slice(1))
    return same


def alike(left: pa.Array, right: pa.Array) -> Mask:
    """For each place: whether two arrays of one type have the same value there, or none."""
    kind = left.type
    if pa.types.is_struct(kind):
        same = _flags(pc.equal(pc.is_null(left), pc.is_null(right)))
        for mine, other in zip(left.flatten(), right.flatten(), strict=True):
            same &= alike(mine, other)
        return same
    if pa.types.is_nested(kind):
        pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
        return np.fromiter((repr(a) == repr(b) for a, b in pairs), bool, len(left))
    same = pc.fill_null(pc.equal(left, right), False)
    same = pc.or_(same, pc.and_(pc.is_null(left), pc.is_null(right)))
    if pa.types.is_floating(kind):
        nans = pc.and_(pc.is_nan(left), pc.is_nan(right))
        same = pc.or_(same, pc.fill_null(nans, False))
    return _flags(same)


def _flags(column: pa.Array) -> Mask:
    # A copy: what Arrow hands out cannot be written to.
    return np.array(column.to_numpy(zero_copy_only=False), dtype=bool)


def _duplicates(
    ordered: pa.Table, repeats: np.ndarray[Any, Any], keys: Sequence[str], where: str, more: str
) -> DuplicateMergeKeys:
    count = int(repeats.sum())
    at = np.flatnonzero(repeats)[:SHOWN_KEYS]
    shown = ordered.select(list(keys)).take(pa.array(at)).to_pylist()
    return DuplicateMergeKeys(
        f"{where}: {count} rows of the source share their merge key{more} with another, such as "
        + "; ".join(", ".join(f"{k}={v!r}" for k, v in one.items()) for one in shown),
        hint="name columns in sequence_by that say which row is the last"
        if not more
        else "add a column to sequence_by that tells them apart",
        rows=count,
    )


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """The condition by which rows of source and table match.

    Attributes:
        on: Equality of all keys.
        pruning: The range of the source's keys, for files that cannot hold a match; empty when
            the types have none.
    """

    on: str
    pruning: str

    def sql(self, *, prune: bool) -> str:
        """The condition, with the range where files may be passed over."""
        return f"{self.on} AND {self.pruning}" if prune and self.pruning else self.on


def key_match(rows: pa.Table, keys: Sequence[str], dialect: str | None = None) -> KeyMatch:
    """How the rows of a source match the table's, as SQL of a dialect of sqlglot's."""
    sides = [[quoted(key, side, dialect) for side in ("target", "source")] for key in keys]
    on = " AND ".join(f"{target} = {source}" for target, source in sides)
    return KeyMatch(on, key_range(rows, keys, "target", dialect))


def key_range(
    rows: pa.Table, keys: Sequence[str], side: str = "", dialect: str | None = None
) -> str:
    """The range that the keys of some rows lie in, as a condition; empty when types have none."""
    ranges = []
    for key in keys:
        ends = pc.min_max(rows.column(key)) if _has_range(rows.schema.field(key).type) else None
        found = [ends[e].as_py() for e in ("min", "max")] if ends is not None else []
        literals = [_literal(one, dialect) for one in found]
        if literals and None not in literals:
            name = quoted(key, side, dialect)
            ranges.append(f"{name} >= {literals[0]} AND {name} <= {literals[1]}")
    return " AND ".join(ranges)


def _has_range(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_string(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
    )


def _literal(value: Any, dialect: str | None) -> str | None:
    """A value as SQL; None where there is none, or engines could not read it."""
    if isinstance(value, dt.date) and not _YEARS[0] <= value.year <= _YEARS[1]:
        return None
    if isinstance(value, dt.datetime):
        text = exp.Literal.string(value.isoformat()).sql()
        return f"CAST({text} AS TIMESTAMP)"
    if isinstance(value, dt.date):
        return f"CAST({exp.Literal.string(value.isoformat()).sql()} AS DATE)"
    if isinstance(value, str):
        return str(exp.Literal.string(value).sql(dialect))
    if isinstance(value, int | decimal.Decimal):
        return str(value)
    return None
