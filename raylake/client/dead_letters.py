"""Dead letters as the table holds them: the newest ones, and counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.log_reader import LogReader
from raylake.errors import NotOurTable
from raylake.storage.place import open_input, place

KEYS = ("table", "stage", "error_class")
_COLUMNS = (
    *("table", "topic", "partition", "offset", "timestamp", "failed_at"),
    *("reason", "error_class", "key", "value"),
)


@dataclass(frozen=True, slots=True)
class LetterCount:
    """Dead letters of one kind.

    Attributes:
        table: The table that the record was meant for.
        stage: Where it failed.
        error_class: The kind of fault.
        count: How many.
        first_failed_at: The earliest, ISO 8601 in UTC.
        last_failed_at: The latest.
        example: One reason.
    """

    table: str
    stage: str
    error_class: str
    count: int
    first_failed_at: str
    last_failed_at: str
    example: str


def newest(path: str, pipeline: str, limit: int, reason: str | None = None) -> list[dict[str, Any]]:
    """Dead letters of a pipeline, those that failed last first.

    Args:
        path: The dead-letter table's folder; none is as good as an empty one.
        pipeline: The pipeline.
        limit: Greatest number of letters.
        reason: Text that the reason holds, upper and lower case alike.
    """
    kept: list[pa.Table] = []
    for part in _parts(path, pipeline, _COLUMNS):
        found = part
        if reason:
            found = part.filter(pc.match_substring(part["reason"], reason, ignore_case=True))
        kept = [_last(pa.concat_tables([*kept, found]), limit)]
    rows: list[dict[str, Any]] = kept[0].to_pylist() if kept else []
    return rows


def _last(table: pa.Table, limit: int) -> pa.Table:
    order = [("failed_at", "descending"), ("topic", "ascending"), ("partition", "ascending")]
    return table.sort_by([*order, ("offset", "descending")]).slice(0, limit)


def counts(path: str, pipeline: str) -> list[LetterCount]:
    """Dead letters of a pipeline by table, stage and kind of fault, the most frequent first."""
    grouped = [
        part.group_by(list(KEYS)).aggregate(
            [("offset", "count"), ("failed_at", "min"), ("failed_at", "max"), ("reason", "min")]
        )
        for part in _parts(
            path, pipeline, ("table", "error_class", "failed_at", "reason", "offset")
        )
    ]
    if not grouped:
        return []
    merged = (
        pa.concat_tables(grouped)
        .group_by(list(KEYS))
        .aggregate(
            [
                ("offset_count", "sum"),
                ("failed_at_min", "min"),
                ("failed_at_max", "max"),
                ("reason_min", "min"),
            ]
        )
    )
    found = [
        LetterCount(
            str(row["table"]),
            str(row["stage"]),
            str(row["error_class"]),
            int(row["offset_count_sum"]),
            row["failed_at_min_min"].isoformat(),
            row["failed_at_max_max"].isoformat(),
            str(row["reason_min_min"]),
        )
        for row in merged.to_pylist()
    ]
    return sorted(found, key=lambda one: (-one.count, one.table, one.stage, one.error_class))


def _parts(path: str, pipeline: str, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """The live files one by one, with the column ``stage``; memory for one file."""
    try:
        files = LogReader(path).snapshot().files
    except NotOurTable:
        if place(path).exists():
            raise
        return
    for name, pairs in zip(
        files["path"].to_pylist(), files["partition_values"].to_pylist(), strict=True
    ):
        values = dict(pairs or ())
        if values.get("pipeline") != pipeline:
            continue
        with open_input(place(path) / unquote(name)) as opened:
            read = pq.ParquetFile(opened).read(columns=list(columns))
        stage = pa.array([values.get("stage")] * read.num_rows, pa.string())
        yield read.append_column("stage", stage)
