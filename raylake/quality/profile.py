"""What a batch looks like, in one pass: the figures that the seven categories are judged by."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from raylake.quality.bounds import is_text, kind_text
from raylake.quality.duck import ask
from raylake.quality.table_rules import hashes

MAX_COLUMNS: Final = 200
"""Columns that are profiled: the first ones."""
MAX_TIME_COLUMNS: Final = 4
"""Of times, those whose order among each other is looked at: the first ones."""
_THREADS: Final = 2
# What is blank sorts before the first character that is none: few are trimmed.
_BLANK: Final = "CASE WHEN {0} < '!' THEN trim({0}) = '' WHEN {0} IS NOT NULL THEN FALSE END"
_ODD_TIME: Final = "{0} < {1} OR {0} >= {2}"


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column of a batch.

    Attributes:
        kind: Its type, as the pipeline file names it.
        nulls: The share of rows without a value.
        distinct: Values that differ, estimated; None for nested columns.
        newest_us: The greatest time, microseconds since the epoch.
        low: The least number.
        high: The greatest number.
        mean: Of numbers, or of the lengths of texts in characters.
        odd: The share of values that are hardly meant: blank texts, NaN, infinities, times before
            1900 or after 2200.
        negative: The share of values below zero.
    """

    kind: str
    nulls: float
    distinct: int | None = None
    newest_us: int | None = None
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    odd: float | None = None
    negative: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A batch.

    Attributes:
        rows: Its rows.
        columns: By name.
        repeated: The share of rows that another one equals in all columns but those that begin
            with an underscore (coordinates and times of ingestion).
        disorder: By ``earlier <= later`` of two time columns, the share of rows for which it is
            not so.
    """

    rows: int
    columns: Mapping[str, ColumnProfile]
    repeated: float = 0.0
    disorder: Mapping[str, float] | None = None


def profile(rows: pa.Table) -> Profile:
    """The profile of rows; of none only the columns' types."""
    fields = list(rows.schema)[:MAX_COLUMNS]
    if rows.num_rows == 0:
        return Profile(0, {f.name: ColumnProfile(kind_text(f.type), 0.0) for f in fields})
    names = [f"c{number}" for number in range(len(fields))]
    read = pa.table([rows.column(field.name) for field in fields], names)
    pairs = _pairs(fields)
    asked = [_figures(name, field.type) for name, field in zip(names, fields, strict=True)]
    asked.append([f"avg(({names[a]} > {names[b]})::DOUBLE) AS p{n}" for n, (a, b) in pairs])
    compared = [name for name, field in zip(names, fields, strict=True) if _comparable(field)]

    def figures(part: int) -> dict[str, Any]:
        wanted = ", ".join(["count(*) AS n", *itertools.chain.from_iterable(asked[part::_THREADS])])
        return dict(ask(f"SELECT {wanted} FROM batch", batch=read).to_pylist()[0])  # noqa: S608

    with ThreadPoolExecutor(_THREADS) as threads:
        parts = [threads.submit(figures, part) for part in range(_THREADS)]
        repeated = threads.submit(_repeated, read, compared)
        found = {name: value for part in parts for name, value in part.result().items()}
    columns = {
        field.name: _column(rows.column(field.name), found, name)
        for name, field in zip(names, fields, strict=True)
    }
    disorder = {
        f"{fields[a].name} <= {fields[b].name}": float(found[f"p{number}"] or 0.0)
        for number, (a, b) in pairs
    }
    return Profile(rows.num_rows, columns, repeated.result(), disorder)


def _repeated(rows: pa.Table, compared: Sequence[str]) -> float:
    if not compared:
        return 0.0
    ordered = np.sort(hashes(rows, compared))
    repeated = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    return repeated / len(ordered)


def _pairs(fields: Sequence[pa.Field]) -> list[tuple[int, tuple[int, int]]]:
    """Numbered: the places of two columns whose order is looked at."""
    times = [
        at
        for at, field in enumerate(fields)
        if pa.types.is_timestamp(field.type) and not field.name.startswith("_")
    ][:MAX_TIME_COLUMNS]
    alike = (
        (a, b)
        for a, b in itertools.permutations(times, 2)
        if fields[a].type.tz == fields[b].type.tz
    )
    return list(enumerate(alike))


def _comparable(field: pa.Field) -> bool:
    return not field.name.startswith("_") and not pa.types.is_nested(field.type)


def _figures(name: str, kind: pa.DataType) -> list[str]:
    """What is asked of a column; each figure's name begins with the column's."""
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        return []
    made = [f"approx_count_distinct({name}) AS {name}_distinct"]
    if is_text(kind):
        made += [
            f"avg(length({name})) AS {name}_mean",
            f"avg(({_BLANK.format(name)})::DOUBLE) AS {name}_odd",
        ]
    elif pa.types.is_floating(kind):
        fine = f"FILTER (isfinite({name}))"
        made += [
            f"min({name}) {fine} AS {name}_low",
            f"max({name}) {fine} AS {name}_high",
            f"avg({name}) {fine} AS {name}_mean",
            f"avg((NOT isfinite({name}))::DOUBLE) AS {name}_odd",
            f"avg(({name} < 0)::DOUBLE) AS {name}_negative",
        ]
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        made += [
            f"min({name})::DOUBLE AS {name}_low",
            f"max({name})::DOUBLE AS {name}_high",
            f"avg({name}) AS {name}_mean",
            f"avg(({name} < 0)::DOUBLE) AS {name}_negative",
        ]
    elif pa.types.is_temporal(kind):
        made += [
            f"epoch_us(max({name})::TIMESTAMPTZ) AS {name}_newest",
            f"avg(({_ODD_TIME.format(name, *_years(kind))})::DOUBLE) AS {name}_odd",
        ]
    return made


def _years(kind: pa.DataType) -> list[str]:
    """The begins of 1900 and 2201 in UTC, as a column is compared with them."""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return [f"TIMESTAMPTZ '{year}-01-01 00:00:00+00'" for year in (1900, 2201)]
    name = "TIMESTAMP" if pa.types.is_timestamp(kind) else "DATE"
    return [f"{name} '{year}-01-01'" for year in (1900, 2201)]


def _column(column: pa.ChunkedArray, found: Mapping[str, Any], name: str) -> ColumnProfile:
    def figure(what: str) -> float | None:
        value = found.get(f"{name}_{what}")
        return None if value is None else float(value)

    newest, distinct = found.get(f"{name}_newest"), found.get(f"{name}_distinct")
    return ColumnProfile(
        kind_text(column.type),
        column.null_count / len(column),
        None if distinct is None else int(distinct),
        None if newest is None else int(newest),
        figure("low"),
        figure("high"),
        figure("mean"),
        figure("odd"),
        figure("negative"),
    )
