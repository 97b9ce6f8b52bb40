"""Dead letters as the table holds them: which ones, the newest, and counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.dead_letters import REPLAYED_SCHEMA, app_of
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.pending import REPLAYED
from raylake.errors import ConfigError, NotOurTable
from raylake.storage.place import open_input, place
from raylake.tables.cow_conditions import Judge
from raylake.tables.expressions import Expression, Scope, condition

KEYS = ("table", "stage", "error_class")
_COLUMNS = (
    *("table", "topic", "partition", "offset", "timestamp", "failed_at", "stage"),
    *("reason", "error_class", "key", "value"),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters; all of these must hold.

    Attributes:
        where: Conditions on the columns of the dead-letter table.
        reason: Text that the reason holds, upper and lower case alike; empty for any.
        table: The table that they were meant for; empty for any.
        replayed: Those that have become rows, instead of those that have not.
    """

    where: tuple[str, ...] = ()
    reason: str = ""
    table: str = ""
    replayed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"where": list(self.where), "reason": self.reason, "table": self.table}


EVERY = Selection()


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


class Letters:
    """The dead letters of a pipeline that are selected, at one version of their table.

    Args:
        path: The dead-letter table's folder; none is as good as an empty one.
        pipeline: The pipeline.
        selection: Which of them.

    Raises:
        BadExpression, UnknownColumn, TimeWithoutZone: A condition is none on these columns.
        NotOurTable: Something else than a table lies there.
        LogDamaged: Its log cannot be read.
    """

    def __init__(self, path: str, pipeline: str, selection: Selection = EVERY) -> None:
        self.path = path
        self._pipeline = pipeline
        self._selection = selection
        scope = Scope({"": REPLAYED_SCHEMA}, "where")
        self._conditions = [condition(text, scope) for text in selection.where]
        self._snapshot = _snapshot(path)

    def stored_version(self, table_id: str) -> int:
        """The version of a data table up to which its letters are in here; -1 for none."""
        return -1 if self._snapshot is None else self._snapshot.txns.get(app_of(table_id), -1)

    def parts(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The selected letters, file by file; memory for one file.

        Raises:
            ConfigError: A condition cannot be worked out for some letter.
            OSError: A file cannot be read.
        """
        if self._snapshot is None:
            return
        needed = {"table", "reason", *columns}
        needed |= {name for one in self._conditions for _, name in one.columns}
        names = [name for name in REPLAYED_SCHEMA.names if name in needed]
        files = self._snapshot.files
        with Judge() as judge:
            for path, pairs in zip(
                *(files[name].to_pylist() for name in ("path", "partition_values")), strict=True
            ):
                values = dict(pairs or ())
                if not self._may_hold(values):
                    continue
                found = self._chosen(self._read(path, values, names), judge)
                if found.num_rows:
                    yield found.select(list(columns))

    def _may_hold(self, values: Mapping[str, str | None]) -> bool:
        replayed = values.get("stage") == REPLAYED
        return (values.get("pipeline"), replayed) == (self._pipeline, self._selection.replayed)

    def _chosen(self, letters: pa.Table, judge: Judge) -> pa.Table:
        if self._selection.table:
            letters = letters.filter(pc.equal(letters["table"], self._selection.table))
        if self._selection.reason:
            holds = pc.match_substring(letters["reason"], self._selection.reason, ignore_case=True)
            letters = letters.filter(holds)
        for one in self._conditions:
            if letters.num_rows:
                letters = letters.filter(pa.array(_holds(one, letters, judge)))
        return letters

    def _read(self, path: str, values: Mapping[str, str | None], names: Sequence[str]) -> pa.Table:
        with open_input(place(self.path) / unquote(path)) as opened:
            parquet = pq.ParquetFile(opened)
            stored = set(parquet.schema_arrow.names)
            rows = parquet.read(columns=[name for name in names if name in stored])
        arrays = []
        for name in names:
            kind = REPLAYED_SCHEMA.field(name).type
            if name in stored:
                column = rows.column(name)
                arrays.append(column if column.type == kind else column.cast(kind))
            else:
                value = pa.scalar(values.get(name), pa.string()).cast(kind)
                arrays.append(pa.repeat(value, rows.num_rows))
        return pa.table(arrays, schema=pa.schema([REPLAYED_SCHEMA.field(n) for n in names]))


def _holds(one: Expression, letters: pa.Table, judge: Judge) -> Any:
    read = letters.select(sorted({name for _, name in one.columns}))
    try:
        return judge.holds(one.sql("duckdb"), letters.num_rows, {"": read})
    except duckdb.Error as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"where: {one.sql()} cannot be worked out: {reason}") from error


def _snapshot(path: str) -> LogSnapshot | None:
    try:
        return LogReader(path).snapshot()
    except NotOurTable:
        if place(path).exists():
            raise
        return None


def newest(letters: Letters, limit: int) -> list[dict[str, Any]]:
    """The selected dead letters, those that failed last first.

    Args:
        letters: Which.
        limit: Greatest number of letters.
    """
    kept: list[pa.Table] = []
    for part in letters.parts(_COLUMNS):
        kept = [_last(pa.concat_tables([*kept, part]), limit)]
    rows: list[dict[str, Any]] = kept[0].to_pylist() if kept else []
    return rows


def _last(table: pa.Table, limit: int) -> pa.Table:
    order = [("failed_at", "descending"), ("topic", "ascending"), ("partition", "ascending")]
    return table.sort_by([*order, ("offset", "descending")]).slice(0, limit)


def counts(letters: Letters) -> list[LetterCount]:
    """The selected letters by table, stage and kind of fault, the most frequent first."""
    grouped = [
        part.group_by(list(KEYS)).aggregate(
            [("offset", "count"), ("failed_at", "min"), ("failed_at", "max"), ("reason", "min")]
        )
        for part in letters.parts((*KEYS, "failed_at", "reason", "offset"))
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
