"""Replays: dead letters become rows by today's pipeline, whether it runs or not (SPEC B4).

What is slow, reading, mending, decoding and writing files, is done here and changes nothing. Then
one commit of each table's owner, that of the run or this process in its place, and the dead-letter
table follows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from raylake import faults
from raylake.client.dead_letters import Letters, Selection
from raylake.client.fixes import Fix
from raylake.client.replay_tables import (
    ReplayTable,
    open_table,
    plan_of,
)
from raylake.client.replay_work import NO_VALUES, SOURCE, Attempt, Looked, look, lost
from raylake.clock import Clock
from raylake.config import Loaded, dead_letter_path
from raylake.delta.dead_letters import DEAD_LETTER_PARTITION_BY, REPLAYED_SCHEMA, STATS_COLUMNS
from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.replaying import Replay
from raylake.errors import Refused, ReplayOvertaken
from raylake.ingest.fitting import Fitting
from raylake.ingest.replays import new_replay_id
from raylake.ingest.unit import DataFile, SourcePartition

TRIES: Final = 3
SHOWN: Final = 10
_HELD_BYTES: Final = 128 * 1024 * 1024

By = Literal["run", "command"]


@dataclass(slots=True)
class TableReplay:
    """What a replay made, or would make, of one table's letters.

    Attributes:
        table: The table.
        replay_id: The replay; empty where nothing was committed.
        letters: Letters that were selected.
        rows: How many of them are rows now.
        failed: How many have failed again; each is one letter still.
        left: How many the fix function left alone.
        added: Columns that they bring to the table.
        version: The table's version that has the rows; None where nothing was committed.
        warnings: What could not be finished although the rows are in the table.
        shown: The first rows, with their coordinates.
        failures: The first of those that have failed again.
    """

    table: str
    replay_id: str = ""
    letters: int = 0
    rows: int = 0
    failed: int = 0
    left: int = 0
    added: tuple[str, ...] = ()
    version: int | None = None
    warnings: tuple[str, ...] = ()
    shown: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay, or its preview.

    Attributes:
        tables: By table.
        lost: Selected letters whose values nobody has: of ranges of lost offsets, and erased ones.
        unknown: Selected letters of tables that the pipeline file does not have, by table.
        dry_run: Nothing was changed.
        by: Who committed: the run, or this command in its place.
    """

    tables: tuple[TableReplay, ...]
    lost: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False
    by: By = "command"

    @property
    def selected(self) -> int:
        """How many letters were selected."""
        return sum(one.letters for one in self.tables) + self.lost + sum(self.unknown.values())

    @property
    def rows(self) -> int:
        """How many of them have become rows, or would."""
        return sum(one.rows for one in self.tables)

    @property
    def failed(self) -> int:
        """How many have failed again, or would."""
        return sum(one.failed for one in self.tables)


@dataclass(frozen=True, slots=True)
class _Overview:
    """Which letters are selected: how many of each table, its topics, and lost ranges."""

    tables: Mapping[str, int]
    topics: Mapping[str, set[str]]
    lost: int


def replay(
    loaded: Loaded,
    selection: Selection,
    clock: Clock,
    *,
    fix: str | None = None,
    dry_run: bool = False,
) -> Replayed:
    """Let dead letters pass through today's pipeline again; those that can be are rows then.

    Each letter is taken once, whatever happens in between: the commit that adds its row takes it
    from the account's dead letters. What fails again stays one letter, with the new reason.

    Args:
        loaded: The pipeline file.
        selection: Which letters.
        clock: Time.
        fix: ``file.py:function``, which mends them first.
        dry_run: Only say what would come of them; nothing is changed.

    Raises:
        ConfigError: The fix function cannot be loaded.
        BadExpression, UnknownColumn: A condition is none on the dead letters' columns.
        AlreadyRunning: A table's owner lives, and takes no orders.
        Refused: Why a table's letters cannot be replayed; those of tables before it were.
        RayLakeError: Why it was not done.
    """
    mending = None if fix is None else Fix(fix)
    path = dead_letter_path(loaded.config)
    seen = _overview(Letters(path, loaded.config.pipeline, selection))
    found, unknown = [], {}
    by: By = "command"
    for name, count in sorted(seen.tables.items()):
        plan = plan_of(loaded.config, name, sorted(seen.topics[name]))
        if plan is None:
            unknown[name] = count
            continue
        table = open_table(loaded, plan, clock, dry_run=dry_run)
        by = "run" if table.runs else by
        found.append(_of_table(table, path, replace(selection, table=name), mending))
    return Replayed(tuple(found), seen.lost, unknown, dry_run, by)


def _overview(letters: Letters) -> _Overview:
    tables: dict[str, int] = {}
    topics: dict[str, set[str]] = {}
    gone = 0
    for part in letters.parts(("table", "topic", "stage")):
        gone += lost(part)
        for one in (
            part.group_by(["table", "topic", "stage"]).aggregate([([], "count_all")]).to_pylist()
        ):
            if one["stage"] not in NO_VALUES:
                name = str(one["table"])
                tables[name] = tables.get(name, 0) + int(one["count_all"])
                topics.setdefault(name, set()).add(str(one["topic"]))
    return _Overview(tables, topics, gone)


def _of_table(table: ReplayTable, path: str, selection: Selection, fix: Fix | None) -> TableReplay:
    """Prepare and commit; once more where somebody else was at the letters meanwhile."""
    for left in reversed(range(TRIES)):
        table.settle()
        letters = Letters(path, table.pipeline, selection)
        try:
            return _once(table, letters, selection, fix)
        except ReplayOvertaken:
            if not left:
                raise
    raise AssertionError("unreachable")  # pragma: no cover


def _once(
    table: ReplayTable, letters: Letters, selection: Selection, fix: Fix | None
) -> TableReplay:
    attempt = Attempt(
        new_replay_id(),
        dt.datetime.fromtimestamp(table.clock.now(), dt.UTC),
        "" if fix is None else fix.name,
    )
    columns = table.columns()
    before = columns.view()
    work = _Work(table, Fitting(table.name, columns, table.maker), attempt)
    for part in letters.parts(REPLAYED_SCHEMA.names):
        work.take(part, fix)
    said, now = work.said, work.fitting.view()
    said.added = tuple(n for n in now.schema.names if n not in before.schema.names)
    _refuse_doubled(table.name, work.offsets)
    if table.dry_run or not work.looked:
        return said
    work.flush()
    if work.fingerprints - {now.fingerprint}:
        raise ReplayOvertaken(f"{table.name}: the table got columns while files were written")
    order = Replay(
        attempt.replay_id,
        table.pipeline,
        table.name,
        letters.stored_version(before.table_id),
        now.fingerprint,
        dict(work.counts),
        tuple(work.files),
        tuple(work.letter_files),
        {"selection": selection.to_dict(), "fix": attempt.fix, "failed": said.failed},
    )
    faults.reach("replay.written", replay=order.replay_id)
    said.version = table.commit(order)
    faults.reach("replay.committed", replay=order.replay_id, version=said.version)
    said.replay_id = attempt.replay_id
    said.warnings = table.mark(said.version)
    return said


class _Work:
    """One table's letters under way: rows and letters held, and the files that are written."""

    def __init__(self, table: ReplayTable, fitting: Fitting, attempt: Attempt) -> None:
        self.fitting = fitting
        self.said = TableReplay(table.name)
        self.counts: dict[SourcePartition, int] = {}
        self.offsets: dict[SourcePartition, list[np.ndarray[Any, Any]]] = {}
        self.files: list[DataFile] = []
        self.letter_files: list[DataFile] = []
        self.fingerprints: set[str] = set()
        self._table = table
        self._attempt = attempt
        self._rows: list[pa.Table] = []
        self._letters: list[pa.Table] = []

    @property
    def looked(self) -> int:
        """How many letters were looked at."""
        return self.said.rows + self.said.failed

    def take(self, letters: pa.Table, fix: Fix | None) -> None:
        """Look at letters, and write what is held when it is much."""
        found = look(letters, self.fitting, fix, self._attempt)
        self._count(letters, found)
        if self._table.dry_run:
            return
        self._rows += found.rows
        self._letters.append(found.letters)
        if sum(one.nbytes for one in (*self._rows, *self._letters)) > _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held; the files are of no table yet."""
        view = self.fitting.view()
        if self._rows:
            self.files += self._table.maker.write_rows(self._rows, view.schema)
            self.fingerprints.add(view.fingerprint)
        letters = pa.concat_tables(self._letters) if self._letters else None
        if letters is not None and letters.num_rows:
            self.letter_files += write_data_files(
                self._table.letters,
                letters,
                REPLAYED_SCHEMA,
                DEAD_LETTER_PARTITION_BY,
                WriteOptions(self._table.durability, stats_columns=STATS_COLUMNS),
            )
        self._rows, self._letters = [], []

    def _count(self, letters: pa.Table, found: Looked) -> None:
        said = self.said
        said.letters += letters.num_rows - lost(letters)
        said.left += found.left
        said.failed += found.failed.num_rows
        for source, count in found.counts.items():
            self.counts[source] = self.counts.get(source, 0) + count
            said.rows += count
        for rows in found.rows:
            said.shown += rows.slice(0, max(0, SHOWN - len(said.shown))).to_pylist()
        said.failures += (
            found.failed.slice(0, max(0, SHOWN - len(said.failures)))
            .select([*SOURCE, "offset", "stage", "reason", "error_class", "value"])
            .to_pylist()
        )
        columns = [found.letters[name].to_pylist() for name in SOURCE]
        offsets = found.letters["offset"].to_numpy()
        held: dict[SourcePartition, list[int]] = {}
        for row, one in enumerate(zip(*columns, strict=True)):
            held.setdefault(SourcePartition(*one), []).append(row)
        for source, of in held.items():
            self.offsets.setdefault(source, []).append(offsets[of])


def _refuse_doubled(
    table: str, offsets: Mapping[SourcePartition, Sequence[np.ndarray[Any, Any]]]
) -> None:
    """A letter that is there twice would be two rows.

    Raises:
        Refused: An offset has two letters.
    """
    for source, parts in sorted(offsets.items()):
        found, counted = np.unique(np.concatenate(parts), return_counts=True)
        twice = found[counted > 1]
        if len(twice):
            raise Refused(
                f"{table}: {source} has {len(twice)} offsets with two dead letters, the first is "
                f"{twice[0]}; nothing was changed",
                hint="`raylake verify --level data` says more",
            )
