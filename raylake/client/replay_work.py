"""Dead letters looked at again: which become rows by today's pipeline, and what the others are."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.client.fixes import STAGE, DeadLetter, Fix, NotFixed
from raylake.delta.dead_letters import REPLAYED_SCHEMA
from raylake.delta.pending import REPLAYED
from raylake.delta.verify_letters import ERASED, LOST, NOT_COUNTED
from raylake.ingest.fitting import Fitting
from raylake.ingest.unit import SourcePartition
from raylake.kafka.port import FetchedBatch
from raylake.kafka.records import FETCH_SCHEMA

Failure = tuple[str, str, str]
"""Stage, reason and kind of fault."""

SOURCE: Final = ("topic", "topic_id", "partition")
_CONTENT: Final = ("key", "value", "headers")
_AS_IT_IS: Final = (
    *("table", "topic", "topic_id", "partition", "offset", "key", "value"),
    *("stage", "reason", "error_class"),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One replay, as its letters tell it.

    Attributes:
        replay_id: Its id.
        at: When.
        fix: The fix function; empty for none.
    """

    replay_id: str
    at: dt.datetime
    fix: str = ""


@dataclass(slots=True)
class Looked:
    """What came of some letters of one table.

    Attributes:
        rows: Rows of the table.
        counts: How many letters of each partition have become rows.
        letters: What each letter that was looked at is from now on, in
            :data:`~raylake.delta.dead_letters.REPLAYED_SCHEMA`.
        left: How many the fix function left alone.
    """

    rows: list[pa.Table] = field(default_factory=list)
    counts: Counter[SourcePartition] = field(default_factory=Counter)
    letters: pa.Table = field(default_factory=REPLAYED_SCHEMA.empty_table)
    left: int = 0

    @property
    def failed(self) -> pa.Table:
        """Those that have failed again."""
        return self.letters.filter(pc.not_equal(self.letters["stage"], REPLAYED))


def look(letters: pa.Table, fitting: Fitting, fix: Fix | None, attempt: Attempt) -> Looked:
    """Let letters of one table pass through its decoder and checks once more.

    Args:
        letters: In :data:`~raylake.delta.dead_letters.REPLAYED_SCHEMA`; none of a lost range.
        fitting: The table's maker, kept at its columns.
        fix: Mends them first.
        attempt: What is written on them.

    Raises:
        SchemaConflict: They bring columns that the table cannot get.
        RayLakeError: The table does not get them now.
    """
    without = pa.array((*NOT_COUNTED, ERASED))
    letters = letters.filter(pc.invert(pc.is_in(letters["stage"], without)))
    letters = letters.sort_by([(name, "ascending") for name in (*SOURCE, "offset")])
    content, failures, left = _content(letters, fix)
    fates: list[Failure | None] = [failures.get(row) for row in range(letters.num_rows)]
    tried = [row for row in range(letters.num_rows) if row not in failures and row not in left]
    found = Looked(left=len(left))
    for source, rows in _by_source(letters, tried):
        batch = _batch(source, letters, content, rows)
        made = fitting.make(batch)
        if made.rows.num_rows:
            found.rows.append(made.rows)
            found.counts[source] += made.rows.num_rows
        if made.dead is not None:
            columns = (made.dead[name].to_pylist() for name in ("stage", "reason", "error_class"))
            for at, *fate in zip(made.dead_rows, *columns, strict=True):
                fates[rows[at]] = (str(fate[0]), str(fate[1]), str(fate[2]))
    kept = [row for row in range(letters.num_rows) if row not in left]
    taken = letters.take(pa.array(kept, pa.int64()))
    found.letters = marked(taken, [fates[row] for row in kept], attempt)
    return found


NO_VALUES: Final = (*LOST, ERASED)
"""Stages of letters that nobody has the values of: ranges of lost offsets, and erased letters."""


def lost(letters: pa.Table) -> int:
    """How many of them are letters that nobody has the values of."""
    return int(pc.sum(pc.is_in(letters["stage"], pa.array(NO_VALUES))).as_py() or 0)


def _content(letters: pa.Table, fix: Fix | None) -> tuple[pa.Table, dict[int, Failure], set[int]]:
    """Keys, values and headers to be decoded, why some cannot be, and which are left alone."""
    stored = letters.select(list(_CONTENT))
    if fix is None:
        return stored, {}, set()
    changed: list[Any] = []
    failures: dict[int, Failure] = {}
    left: set[int] = set()
    for row, letter in enumerate(_letters(letters)):
        made = fix.apply(letter)
        if made is None:
            left.add(row)
        elif isinstance(made, NotFixed):
            where = f"{letter.topic}[{letter.partition}] offset {letter.offset}"
            failures[row] = (STAGE, f"{where}: {made.reason}", made.error_class)
        changed.append((made if isinstance(made, DeadLetter) else letter).content)
    columns = zip(*changed, strict=True) if changed else ((), (), ())
    keys, values, headers = (list(column) for column in columns)
    named = [[{"key": key, "value": value} for key, value in one] for one in headers]
    schema = stored.schema
    arrays = [
        pa.array(made, schema.field(name).type)
        for name, made in zip(_CONTENT, (keys, values, named), strict=True)
    ]
    return pa.table(arrays, schema=schema), failures, left


def _letters(letters: pa.Table) -> list[DeadLetter]:
    found = []
    for one in letters.to_pylist():
        at = one["timestamp"]
        found.append(
            DeadLetter(
                **{name: one[name] for name in _AS_IT_IS},
                timestamp_ms=None if at is None else round(at.timestamp() * 1000),
                headers=tuple((pair["key"], pair["value"]) for pair in one["headers"] or ()),
            )
        )
    return found


def _by_source(letters: pa.Table, rows: Sequence[int]) -> list[tuple[SourcePartition, list[int]]]:
    """The rows of each partition, in order of offsets."""
    columns = [letters[name].to_pylist() for name in SOURCE]
    found: dict[SourcePartition, list[int]] = {}
    for row in rows:
        topic, topic_id, partition = (column[row] for column in columns)
        found.setdefault(SourcePartition(topic, topic_id, int(partition)), []).append(row)
    return list(found.items())


def _batch(
    source: SourcePartition, letters: pa.Table, content: pa.Table, rows: Sequence[int]
) -> FetchedBatch:
    chosen = pa.array(rows, pa.int64())
    mine, of = letters.take(chosen), content.take(chosen)
    times = pc.divide(mine["timestamp"].cast(pa.int64()), 1000)
    headers = pc.fill_null(of["headers"].combine_chunks(), pa.scalar([], of["headers"].type))
    arrays = [
        mine["offset"].combine_chunks(),
        times.combine_chunks(),
        of["key"].combine_chunks(),
        of["value"].combine_chunks(),
        headers,
    ]
    records = pa.record_batch([_whole(one) for one in arrays], schema=FETCH_SCHEMA)
    offsets = records.column("offset")
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    return FetchedBatch(source, first, last + 1, records, -1, int(records.nbytes))


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def marked(letters: pa.Table, fates: Sequence[Failure | None], attempt: Attempt) -> pa.Table:
    """The letters with what came of them; their bytes and coordinates stay as they were."""
    failed = np.array([fate is not None for fate in fates], np.bool_)
    became = pa.array(~failed)
    new: Mapping[str, list[str | None]] = {
        name: [None if fate is None else fate[at] for fate in fates]
        for at, name in enumerate(("stage", "reason", "error_class"))
    }
    count = letters.num_rows
    columns = {name: letters[name] for name in letters.schema.names}
    for name, values in new.items():
        otherwise = pa.repeat(pa.scalar(REPLAYED), count) if name == "stage" else letters[name]
        columns[name] = pc.if_else(became, otherwise, pa.array(values, pa.string()))
    attempts = pc.add(pc.fill_null(letters["attempts"], 0), pa.scalar(1, pa.int32()))
    columns |= {
        "attempts": attempts.cast(pa.int32()),
        "replay_id": pa.repeat(pa.scalar(attempt.replay_id), count),
        "replayed_at": pa.repeat(pa.scalar(attempt.at, pa.timestamp("us", tz="UTC")), count),
        "fix": pa.array([attempt.fix or None] * count, pa.string()),
        "failed_stage": pc.if_else(became, letters["stage"], pa.nulls(count, pa.string())),
    }
    return pa.table([columns[name] for name in REPLAYED_SCHEMA.names], schema=REPLAYED_SCHEMA)
