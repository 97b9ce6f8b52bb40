"""An upsert of our own: files that hold a key are written anew, in one commit (ADR 30).

Keys are read first, file by file; only files with rows that change are read whole, a row group at a
time, so memory holds the source, the keys of a file or two, and a row group of each.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from raylake import faults
from raylake.delta import log_files
from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.verify_log import table_path
from raylake.errors import RayLakeError
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place, sync_path
from raylake.tables.cow_commit import Changes, Counts, commit
from raylake.tables.cow_conditions import Judge, Mask, columns_of
from raylake.tables.cow_feed import new_changes
from raylake.tables.cow_files import Found, Rewrite, Values, find, rewritten, with_columns
from raylake.tables.cow_keys import Positions, SourceKeys
from raylake.tables.cow_target import (
    Target,
    TargetFile,
    candidates,
    new_metadata,
    target_of,
)
from raylake.tables.delta_rs_tasks import Task
from raylake.tables.delta_rs_upsert import counted
from raylake.tables.errors import ValuesRefused
from raylake.tables.merging import Merge
from raylake.tables.space import require_space
from raylake.tables.subject import Subject

MOST_THREADS: Final = 4
"""Files that are worked on at a time: each one holds its keys, and later a row group."""
WHY: Final = "copy-on-write merge of RayLake"


@dataclass(slots=True)
class _Plan:
    """What the merge will do.

    Attributes:
        rewrites: Files with rows that change.
        inserted: Rows that are inserted, with the columns that an insert writes.
        scanned: Files whose keys were read.
        skipped: Files that cannot hold a key.
        scan_s: Seconds that this took.
    """

    rewrites: list[Rewrite]
    inserted: pa.Table
    scanned: int
    skipped: int
    scan_s: float


@dataclass(slots=True)
class _Written:
    """What was written.

    Attributes:
        files: Files of rows.
        feed: Files of the change feed.
        moved: Updated rows whose partition is another one now.
    """

    files: list[DataFile] = field(default_factory=list)
    feed: list[DataFile] = field(default_factory=list)
    moved: list[pa.Table] = field(default_factory=list)

    @property
    def all(self) -> list[DataFile]:
        """The files of both kinds."""
        return [*self.files, *self.feed]


def own_merge(subject: Subject, handle: DeltaTable, merge: Merge) -> Task | None:
    """The merge as RayLake carries it out; None when there is nothing to do.

    Keys are read and rows are judged here; files are written when the task runs.

    Raises:
        NotHere: delta-rs is to do it.
        ValuesRefused: Rows break NOT NULL or a constraint.
        NotEnoughSpace: The disk has no room for the rewrite.
        OSError: A file cannot be read.
    """
    target = target_of(subject, handle, merge)
    plan = _planned(target, merge)
    if not plan.rewrites and not plan.inserted.num_rows:
        return None
    _require_room(target, plan)
    return Task(
        lambda properties: _run(target, merge, plan, properties),
        lambda metrics: counted(merge, metrics),
        why=WHY,
    )


def _planned(target: Target, merge: Merge) -> _Plan:
    began_s = time.monotonic()
    keys = SourceKeys(merge.rows, merge.keys)
    files, total = candidates(target, merge, keys)
    whole = merge.unmatched is not None
    with Judge() as judge, _threads(len(files)) as pool:
        also = _read_too(target, merge)
        found = _in_order(pool, lambda file: find(target, file, keys, also, whole=whole), files)
        seen = np.zeros(merge.rows.num_rows, dtype=bool)
        rewrites = []
        for one in found:
            seen[one.source] = True
            rewrite = _judged(one, target, merge, judge)
            if rewrite.changes:
                rewrites.append(rewrite)
        inserted = _inserted(target, merge, ~seen, judge)
    # What the keys took is to be there for the rows.
    pa.default_memory_pool().release_unused()
    scanned_s = time.monotonic() - began_s
    return _Plan(rewrites, inserted, len(files), total - len(files), scanned_s)


def _read_too(target: Target, merge: Merge) -> list[str]:
    """Columns of the table that conditions read, or constraints of rows that are updated."""
    found = target.conditions.columns("target")
    for text in target.constraints.values() if merge.updates else ():
        found |= columns_of(text, "") - set(merge.updates)
    return [name for name in target.schema.names if name in found]


def _judged(found: Found, target: Target, merge: Merge, judge: Judge) -> Rewrite:
    """What becomes of the rows of a file.

    Raises:
        ValuesRefused: An update breaks NOT NULL or a constraint.
    """
    whole = merge.unmatched is not None
    columns = found.columns.take(pa.array(found.positions)) if whole else found.columns
    count, conditions = len(found.positions), target.conditions
    sides = {"target": columns, "source": _read(target, merge, found)}
    gone = np.zeros(count, dtype=bool)
    if conditions.delete is not None:
        gone = judge.holds(conditions.delete, count, sides)
    updated = ~gone if merge.updates else np.zeros(count, dtype=bool)
    if conditions.update is not None:
        updated &= judge.holds(conditions.update, count, sides)
    places, source = found.positions[updated], found.source[updated]
    judged = [name for name in merge.updates if name in _with_rules(target)]
    if judged and len(places):
        new = merge.rows.select(judged).take(pa.array(source))
        others = columns.filter(pa.array(updated)) if columns.num_columns else columns
        _refuse(new, others, target, judge)
    leaving = found.positions[gone]
    if whole:
        leaving = np.sort(np.append(leaving, _unmatched(found, target, judge)))
    return Rewrite(found.file, found.rows, places, source, leaving)


def _with_rules(target: Target) -> frozenset[str]:
    """Columns that are NOT NULL, or that a constraint reads."""
    required = frozenset(one.name for one in target.schema if not one.nullable)
    return required.union(*(columns_of(text, "") for text in target.constraints.values()))


def _read(target: Target, merge: Merge, found: Found) -> pa.Table:
    """What conditions read of the source, for each matching row."""
    names = sorted(target.conditions.columns("source"))
    return merge.rows.select(names).take(pa.array(found.source))


def _unmatched(found: Found, target: Target, judge: Judge) -> Positions:
    left = np.ones(found.rows, dtype=bool)
    left[found.positions] = False
    where = target.conditions.unmatched
    if where is not None and found.rows:
        left &= judge.holds(where, found.rows, {"target": found.columns})
    return np.flatnonzero(left)


def _inserted(target: Target, merge: Merge, unseen: Mask, judge: Judge) -> pa.Table:
    """The rows that are inserted.

    Raises:
        ValuesRefused: One breaks NOT NULL or a constraint.
    """
    insert = target.conditions.insert
    if insert is not None and unseen.any():
        read = merge.rows.select(sorted(columns_of(insert, "source")))
        unseen &= judge.holds(insert, merge.rows.num_rows, {"source": read})
    rows = merge.rows.select(merge.inserts).filter(pa.array(unseen))
    if rows.num_rows:
        missing = [f for f in target.schema if not f.nullable and f.name not in merge.inserts]
        if missing:
            raise _null(target, missing[0].name, rows.num_rows, rows.num_rows)
        others = with_columns(rows, target.schema).drop_columns(list(merge.inserts))
        _refuse(rows, others, target, judge)
    return rows


def _refuse(new: pa.Table, others: pa.Table, target: Target, judge: Judge) -> None:
    """Refuse rows that break NOT NULL or a constraint.

    Args:
        new: Their new values.
        others: Their other columns, as far as constraints read them.
        target: The table.
        judge: Judges constraints.

    Raises:
        ValuesRefused: Naming the column or the constraint.
    """
    for one in target.schema:
        if not one.nullable and one.name in new.schema.names:
            nulls = new.column(one.name).null_count
            if nulls:
                raise _null(target, one.name, nulls, new.num_rows)
    columns = dict(zip(others.schema.names, others.columns, strict=True))
    columns |= dict(zip(new.schema.names, new.columns, strict=True))
    for name, sql in target.constraints.items():
        read = columns_of(sql, "")
        rows = pa.table({key: column for key, column in columns.items() if key in read})
        broken = int((~judge.holds(sql, new.num_rows, {"": rows})).sum())
        if broken:
            raise ValuesRefused(
                f"{target.root}: upsert: {broken} of {new.num_rows} rows break {name} ({sql})",
                hint="nothing was changed; look for such rows in the source",
                constraint=name,
                rows=broken,
            )


def _null(target: Target, column: str, nulls: int, rows: int) -> ValuesRefused:
    return ValuesRefused(
        f"{target.root}: upsert: column {column!r} is NOT NULL, and {nulls} of {rows} rows have no "
        "value",
        hint="fill the column, or leave these rows out",
        column=column,
        rows=nulls,
    )


def _run(target: Target, merge: Merge, plan: _Plan, properties: CommitProperties) -> None:
    """Write the files and commit them; they are taken away where they are surely in no commit."""
    began_s = time.monotonic()
    with ExitStack() as undo:
        written = _Written()
        undo.callback(_take_away, target.root, written)
        _write(target, merge, plan, written)
        counts = Counts(
            source=merge.rows.num_rows,
            inserted=plan.inserted.num_rows,
            updated=sum(len(one.updated) for one in plan.rewrites),
            deleted=sum(len(one.gone) for one in plan.rewrites),
            copied=sum(one.rows - len(one.updated) - len(one.gone) for one in plan.rewrites),
            scanned=plan.scanned,
            skipped=plan.skipped,
            scan_s=plan.scan_s,
            rewrite_s=time.monotonic() - began_s,
        )
        removed = [one.file for one in plan.rewrites]
        changes = Changes(removed, written.files, written.feed, new_metadata(target, merge))
        faults.reach("merge.written", table=str(target.root))
        keep = undo.pop_all()
    try:
        commit(target, merge, changes, counts, properties)
    except CommitFailedError:
        # A store may also say so of this very entry, put again after its answer was lost.
        if _is_anothers(target, written.all):
            keep.close()
        raise
    except OSError:
        if _is_not_there(target) or _is_anothers(target, written.all):
            keep.close()
        raise


def _require_room(target: Target, plan: _Plan) -> None:
    """Refuse a rewrite that does not fit: its files once more, and new rows as in memory.

    A change feed takes the changed rows once more, and updated ones twice.

    Raises:
        NotEnoughSpace: Saying the needed and the free bytes; nothing was written.
    """
    again = sum(one.file.size_bytes for one in plan.rewrites)
    new = plan.inserted.nbytes
    if target.feeds and plan.rewrites:
        # Updated rows as they were and as they are, and those that leave.
        again += sum(
            one.file.size_bytes * (2 * len(one.updated) + len(one.gone)) // max(1, one.rows)
            for one in plan.rewrites
        )
        new *= 2
    require_space(target.root, again + new, f"{target.root}: upsert")


def _is_not_there(target: Target) -> bool:
    """Whether the version after the target's certainly is not there, and never comes.

    On a disk an entry is linked by who writes it, or never; a store may still apply what was asked.
    """
    base, entry = (log_files.commit_path(target.root, target.version + n) for n in (0, 1))
    try:
        return isinstance(target.root, Path) and not entry.exists() and base.exists()
    except OSError:
        return False


def _is_anothers(target: Target, files: Sequence[DataFile]) -> bool:
    """Whether the version after the target's certainly names none of these files."""
    try:
        actions = log_files.read_commit(target.root, target.version + 1)
    except (OSError, RayLakeError):
        return False
    mine = {file.path for file in files}
    named = [a.get("add") or a.get("cdc") or {} for a in actions or []]
    return actions is not None and not any(one.get("path") in mine for one in named)


def _write(target: Target, merge: Merge, plan: _Plan, written: _Written) -> None:
    options = WriteOptions(stats_columns=target.stats_columns)
    values = Values(merge.rows, merge.updates)
    with _threads(len(plan.rewrites)) as pool, _threads(len(plan.rewrites)) as ahead:
        jobs = [
            pool.submit(rewritten, target, one, values, options, ahead) for one in plan.rewrites
        ]
        # Those after one that failed are not begun; what others have written must be known.
        failed = next(filter(None, (job.exception() for job in jobs)), None)
        for job in jobs:
            if failed is not None and job.cancel():
                continue
            if job.exception() is None:
                done = job.result()
                written.files += [done.file] if done.file is not None else []
                written.feed += [done.changes] if done.changes is not None else []
                written.moved += [done.moved] if done.moved is not None else []
        if failed is not None:
            raise failed
    new = with_columns(plan.inserted, target.schema) if plan.inserted.num_rows else None
    rows = written.moved if new is None else [new, *written.moved]
    if rows:
        written.files += write_data_files(
            target.root, pa.concat_tables(rows), target.schema, target.partition_by, options
        )
    if target.feeds and plan.rewrites:
        for one in new_changes(target, new, written.moved, options):
            written.feed.append(one)
    _sync_folders(target.root, written.all)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[TargetFile], Found], files: Sequence[TargetFile]
) -> Iterator[Found]:
    """What comes of each file, in order; only a few are worked on ahead of who takes them."""
    coming: deque[Future[Found]] = deque()
    for file in files:
        coming.append(pool.submit(work, file))
        if len(coming) > MOST_THREADS:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _sync_folders(root: Place, files: Sequence[DataFile]) -> None:
    """Make the files' folders durable, and those that these lie in."""
    found: set[str] = set()
    for one in files:
        below = table_path(one.path)
        while below:
            below = below.rpartition("/")[0]
            found.add(below)
    for below in sorted(found):
        sync_path(root / below if below else root)


def _take_away(root: Place, written: _Written) -> None:
    for one in written.all:
        with suppress(OSError):
            (root / table_path(one.path)).unlink()


def _threads(jobs: int) -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0))
    return ThreadPoolExecutor(max(1, min(jobs, cores, MOST_THREADS)))
