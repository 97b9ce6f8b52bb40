"""What the upkeep of a table asks of its files' statistics, as columns.

Statistics are JSON that any writer may have written: DuckDB reads them for all files at once, and
what is no JSON, or no value of the column's type, counts as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa
from sqlglot import exp

from raylake.delta.stats import comparable
from raylake.quality.duck import ask

_BATCH: Final = 131_072
_COUNT: Final = "/numRecords"


@dataclass(frozen=True, slots=True)
class Ranged:
    """A column whose smallest and greatest values are kept for each file.

    Attributes:
        name: The column.
        kind: How its values compare: as numbers (times are some), days, or texts.
    """

    name: str
    kind: Literal["number", "time", "day", "text"]

    @property
    def kept_as(self) -> pa.DataType:
        """The Arrow type of the kept values; a number that is too long for it is rounded."""
        return pa.string() if self.kind == "text" else pa.float64()


_SQL: Final = {
    "number": "TRY_CAST({0} AS DOUBLE)",
    "time": "CAST(epoch_us(TRY_CAST({0} AS TIMESTAMPTZ)) AS DOUBLE)",
    "day": "CAST(epoch_us(CAST(TRY_CAST({0} AS DATE) AS TIMESTAMP)) AS DOUBLE)",
    "text": "{0}",
}


def ranged(name: str, kind: pa.DataType) -> Ranged | None:
    """How the ranges of a column are kept; None: files of RayLake have none of such a type."""
    types = pa.types
    if not comparable(kind):
        return None
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return Ranged(name, "number")
    if types.is_timestamp(kind):
        return Ranged(name, "time")
    if types.is_date(kind):
        return Ranged(name, "day")
    return Ranged(name, "text")


def statistics_schema(columns: Sequence[Ranged]) -> pa.Schema:
    """The columns of :func:`statistics`."""
    pairs = [
        field
        for at, one in enumerate(columns)
        for field in ((f"low_{at}", one.kept_as), (f"high_{at}", one.kept_as))
    ]
    return pa.schema([("records", pa.int64()), ("gaps", pa.int8()), *pairs])


def statistics(stats: pa.ChunkedArray, columns: Sequence[Ranged]) -> pa.Table:
    """Counts and ranges of files.

    Args:
        stats: Statistics as JSON text; null where there are none.
        columns: Whose ranges are wanted.

    Returns:
        One row a file: ``records`` (null: not known), ``gaps`` (of how many of the columns there is
        neither a range nor a count of nulls), and for each column ``low_N`` and ``high_N``.
    """
    schema = statistics_schema(columns)
    if stats.null_count == len(stats):
        nothing = [pa.nulls(len(stats), field.type) for field in schema]
        nothing[1] = pa.repeat(pa.scalar(len(columns), pa.int8()), len(stats))
        return pa.table(nothing, schema=schema)
    query = _query(columns)
    parts = [
        ask(query, files=pa.table({"s": stats.slice(at, _BATCH)})).cast(schema)
        for at in range(0, len(stats), _BATCH)
    ]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def as_json(stats: pa.Array) -> pa.Array:
    """Statistics that a checkpoint has as a struct, as the JSON text that others have."""
    found = ask("SELECT to_json(s) AS s FROM files", files=pa.table({"s": stats}))
    return found.column("s").combine_chunks().cast(pa.string())


def _query(columns: Sequence[Ranged]) -> str:
    paths = [_COUNT]
    for one in columns:
        # RFC 6901: any name can stand in a pointer.
        key = one.name.replace("~", "~0").replace("/", "~1")
        paths += [f"/minValues/{key}", f"/maxValues/{key}", f"/nullCount/{key}"]
    listed = ", ".join(exp.Literal.string(path).sql("duckdb") for path in paths)
    shown = ["n AS records"]
    gaps, ends = ["0"], []
    for at in range(len(columns)):
        ends += [f"low_{at}", f"high_{at}"]
        gaps.append(
            f"(CASE WHEN (low_{at} IS NULL OR high_{at} IS NULL) AND "
            f"nulls_{at} IS NULL THEN 1 ELSE 0 END)"
        )
    shown += [f"CAST({' + '.join(gaps)} AS TINYINT) AS gaps", *ends]
    inner = ["TRY_CAST(j[1] AS BIGINT) AS n"]
    for at, one in enumerate(columns):
        low, high, nulls = (f"j[{3 * at + 2 + which}]" for which in range(3))
        inner += [
            f"{_SQL[one.kind].format(low)} AS low_{at}",
            f"{_SQL[one.kind].format(high)} AS high_{at}",
            f"TRY_CAST({nulls} AS BIGINT) AS nulls_{at}",
        ]
    source = "CASE WHEN json_valid(s) THEN s END"
    return (
        f"SELECT {', '.join(shown)} FROM (SELECT {', '.join(inner)} FROM "  # noqa: S608 - ours
        f"(SELECT json_extract_string({source}, [{listed}]) AS j FROM files))"
    )
