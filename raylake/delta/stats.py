"""Delta's file statistics from a Parquet footer (DESIGN §5, item 4).

No minimum and maximum for boolean, binary, list and map columns, for float columns that hold NaN
or infinity, for decimals of more than 15 digits, and where the footer has none. Strings are cut
to 32 characters with the maximum rounded up; timestamps are whole milliseconds, rounded outwards.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PREFIX_CHARS = 32
STATS_COLUMNS = "delta.dataSkippingStatsColumns"
"""The property that names the columns."""
DEFAULT_LEAVES = 32
"""Delta's ``delta.dataSkippingNumIndexedCols`` where no column is named."""

_EXACT_DIGITS = 15
_MS_PER_DAY = 86_400_000
_FIRST_MS = int(dt.datetime(1, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)
_LAST_MS = int(dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf column of a Parquet file.

    Attributes:
        index: Its place among the file's leaf columns.
        path: The names that lead to it through structs.
        type: Its Arrow type.
        repeated: It lies in a list or map, where Delta keeps no statistics.
        place: Its dotted path in the file, with what Parquet puts between for lists and maps.
    """

    index: int
    path: tuple[str, ...]
    type: pa.DataType
    repeated: bool
    place: str


def leaves(schema: pa.Schema) -> list[Leaf]:
    """The leaf columns of a schema, in the order of a Parquet file's columns."""
    found: list[Leaf] = []
    for field in schema:
        _collect(field.type, (field.name,), "", found)
    return found


def _collect(kind: pa.DataType, path: tuple[str, ...], below: str, out: list[Leaf]) -> None:
    """Add the leaves of a column; ``below`` is the place inside its outermost list or map."""
    place = below or ".".join(path)
    if pa.types.is_struct(kind):
        for child in kind:
            _collect(child.type, (*path, child.name), below and f"{below}.{child.name}", out)
    elif pa.types.is_map(kind):
        _collect(kind.key_type, path, f"{place}.key_value.key", out)
        _collect(kind.item_type, path, f"{place}.key_value.value", out)
    elif (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        _collect(kind.value_type, path, f"{place}.list.element", out)
    else:
        out.append(Leaf(len(out), path, kind, bool(below), place))


def file_stats(
    footer: pq.FileMetaData, data: pa.Table, columns: Sequence[str] | None = None
) -> str:
    """The ``stats`` of an add action, as JSON text.

    Args:
        footer: The footer of the written file.
        data: What was written, for what a footer does not tell (NaN).
        columns: Top-level columns to keep statistics of; None for the first 32 leaves.
    """
    return footer_stats(footer, leaves(data.schema), nan_leaves(data, columns), columns)


def nan_leaves(data: pa.Table, columns: Sequence[str] | None = None) -> frozenset[int]:
    """The float leaves with statistics that hold NaN, by index; ``columns`` as above."""
    found = (leaf for leaf in wanted(leaves(data.schema), columns) if _floating(leaf.type))
    return frozenset(leaf.index for leaf in found if _has_nan(data, leaf))


def float_leaves(schema: pa.Schema) -> frozenset[int]:
    """All float leaves, by index."""
    return frozenset(leaf.index for leaf in leaves(schema) if _floating(leaf.type))


def footer_stats(
    footer: pq.FileMetaData,
    found: Sequence[Leaf],
    unbounded: Collection[int],
    columns: Sequence[str] | None = None,
) -> str:
    """The ``stats`` of an add action, as JSON text, of a file that is not read.

    Args:
        footer: The file's footer.
        found: The file's leaf columns.
        unbounded: Leaves without bounds, by index: they hold NaN, or nobody knows.
        columns: As for :func:`file_stats`.
    """
    null_count: dict[str, Any] = {}
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    for leaf in wanted(found, columns):
        nulls = _null_count(footer, leaf)
        if nulls is None:
            continue
        _put(null_count, leaf.path, nulls)
        bounds = None if leaf.index in unbounded else _bounds(footer, leaf)
        if bounds is not None:
            if bounds[0] is not None:
                _put(low, leaf.path, bounds[0])
            if bounds[1] is not None:
                _put(high, leaf.path, bounds[1])
    document = {
        "numRecords": footer.num_rows,
        "minValues": low,
        "maxValues": high,
        "nullCount": null_count,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def wanted(found: Sequence[Leaf], columns: Sequence[str] | None) -> Iterator[Leaf]:
    """The leaves that have statistics in the log, as :func:`file_stats` takes ``columns``."""
    if columns is None:
        yield from (leaf for leaf in found[:DEFAULT_LEAVES] if not leaf.repeated)
    else:
        names = frozenset(columns)
        yield from (
            leaf
            for leaf in found
            if not leaf.repeated and (leaf.path[0] in names or ".".join(leaf.path) in names)
        )


def columns_with_statistics(
    configuration: Mapping[str, str], schema: pa.Schema, also: Sequence[str] = ()
) -> tuple[str, ...] | None:
    """The columns that a table keeps statistics of, as :func:`file_stats` takes them.

    Args:
        configuration: The table's properties.
        schema: What its files hold.
        also: Columns that are to have some, whatever the properties say.
    """
    named = configuration.get(STATS_COLUMNS)
    count = configuration.get("delta.dataSkippingNumIndexedCols")
    if named:
        columns = tuple(one.strip(" `") for one in named.split(","))
    elif count or also:
        found = leaves(schema)
        most = int(count) if count else DEFAULT_LEAVES
        first = found if most < 0 else found[:most]
        columns = tuple(".".join(leaf.path) for leaf in first if not leaf.repeated)
    else:
        return None
    return tuple(dict.fromkeys((*columns, *also)))


def _put(into: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        into = into.setdefault(name, {})
    into[path[-1]] = value


def _chunks(footer: pq.FileMetaData, leaf: Leaf) -> Iterator[Any]:
    for group in range(footer.num_row_groups):
        yield footer.row_group(group).column(leaf.index)


def _null_count(footer: pq.FileMetaData, leaf: Leaf) -> int | None:
    total = 0
    for chunk in _chunks(footer, leaf):
        found = chunk.statistics
        if found is None or not found.has_null_count:
            return None
        total += found.null_count
    return total


def _bounds(footer: pq.FileMetaData, leaf: Leaf) -> tuple[Any, Any] | None:
    if not comparable(leaf.type):
        return None
    raw = pa.types.is_timestamp(leaf.type) or pa.types.is_date32(leaf.type)
    scale = _scale(footer, leaf)
    if scale is None:
        return None
    lows, highs = [], []
    for chunk in _chunks(footer, leaf):
        found = chunk.statistics
        if found is None:
            return None
        if not found.has_min_max:
            if found.has_null_count and found.null_count == chunk.num_values:
                continue
            return None
        lows.append(found.min_raw * scale if raw else found.min)
        highs.append(found.max_raw * scale if raw else found.max)
    if not lows:
        return None
    return _low(min(lows), leaf.type), _high(max(highs), leaf.type)


def _scale(footer: pq.FileMetaData, leaf: Leaf) -> int | None:
    """What a file's raw value is multiplied by to be in the leaf's unit; None: it is not known.

    Files of other writers, which a conversion takes as they are, may count milliseconds.
    """
    if not pa.types.is_timestamp(leaf.type):
        return 1
    logical = json.loads(footer.schema.column(leaf.index).logical_type.to_json())
    return {"microseconds": 1, "milliseconds": 1000}.get(logical.get("timeUnit"))


def comparable(kind: pa.DataType) -> bool:
    """Whether files that RayLake writes have minimum and maximum of columns of this type."""
    if pa.types.is_decimal(kind):
        return bool(kind.precision <= _EXACT_DIGITS)
    return bool(
        pa.types.is_integer(kind)
        or _floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_date32(kind)
        or (pa.types.is_timestamp(kind) and kind.unit == "us")
    )


def _floating(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind))


def _has_nan(data: pa.Table, leaf: Leaf) -> bool:
    return bool(pc.any(pc.is_nan(leaf_values(data, leaf))).as_py())


def leaf_values(data: pa.Table, leaf: Leaf) -> pa.ChunkedArray:
    """The values of a leaf that lies in no list or map."""
    column = data.column(leaf.path[0])
    for name in leaf.path[1:]:
        # Not the bare name: that would be a path, and ".x" the field "x".
        column = pc.struct_field(column, [name])
    return column


def _low(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, str):
        return value[:PREFIX_CHARS]
    if pa.types.is_timestamp(kind):
        return _timestamp(value // 1000, kind)
    return _plain(value, kind)


def _high(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, str):
        return rounded_up(value)
    if pa.types.is_timestamp(kind):
        return _timestamp(-(-value // 1000), kind)
    return _plain(value, kind)


def _plain(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_date32(kind):
        ms = value * _MS_PER_DAY
        return _moment(ms).date().isoformat() if _FIRST_MS <= ms <= _LAST_MS else None
    if pa.types.is_decimal(kind):
        return int(value) if kind.scale <= 0 else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _timestamp(ms: int, kind: pa.DataType) -> str | None:
    if not _FIRST_MS <= ms <= _LAST_MS:
        return None
    text = _moment(ms).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text}Z" if kind.tz is not None else text


def _moment(ms: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=ms)


def rounded_up(text: str) -> str | None:
    """A string of at most 32 characters that is not below ``text``; None when there is none."""
    if len(text) <= PREFIX_CHARS:
        return text
    for place in range(PREFIX_CHARS - 1, -1, -1):
        code = ord(text[place]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000
        if code <= 0x10FFFF:
            return text[:place] + chr(code)
    return None
