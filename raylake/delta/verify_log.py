"""The ``log`` level: the ledger's equation, and the live files' rows against it."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.ledger import OWNER_APP, parse_app_id, state_from_values
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.log_store import LogFiles
from raylake.delta.verify_history import History, HistoryWalk
from raylake.delta.verify_model import NOTICE, Finding, FindingList, PartitionAccount
from raylake.errors import LogDamaged
from raylake.ingest.unit import SourcePartition

_REWIND = "no commit of RayLake leaves this behind: restore the table or rewind it deliberately"


@dataclass(frozen=True, slots=True)
class LogAccount:
    """What the log of one table says.

    Attributes:
        reader: The log's reader.
        snapshot: The table; None when the log cannot be read at all.
        history: The commits that are retained.
        partitions: An account for each partition.
        live_rows: Rows of the live files.
        footers_read: Files whose rows came from their footer, for want of statistics.
    """

    reader: LogReader
    snapshot: LogSnapshot | None
    history: History
    partitions: tuple[PartitionAccount, ...]
    live_rows: int | None
    footers_read: int


def read_account(reader: LogReader, findings: FindingList) -> LogAccount:
    """Read one table's log and check the account that it gives.

    A damaged newest commit is a finding; the account is then that of the version before.

    Raises:
        NotOurTable: There is no log.
        UnsupportedTable: The log has a form that is not read here.
    """
    snapshot, history = _read(reader, findings)
    if snapshot is None:
        return LogAccount(reader, None, history, (), None, 0)
    for note in snapshot.notes:
        findings.add(_tolerated(note))
    partitions = accounts(snapshot.txns, findings)
    if OWNER_APP not in snapshot.txns and (partitions or snapshot.files.num_rows):
        findings.add(
            Finding("ledger", OWNER_APP, "a value", "none", "the table has no owner of RayLake's")
        )
    check_equation(partitions, findings)
    _check_paths(snapshot.files, findings)
    rows, footers = live_rows(snapshot.files, reader.files, findings)
    counted = sum(p.counts.rows for p in partitions)
    if rows is not None and rows != counted:
        findings.add(
            Finding(
                "rows",
                f"version {snapshot.version}",
                f"{counted} rows, by the ledger",
                f"{rows} rows in {snapshot.files.num_rows} live files",
                "rows were added or taken away beside the ledger; `--level data` names them",
            )
        )
    return LogAccount(reader, snapshot, history, partitions, rows, footers)


def _read(reader: LogReader, findings: FindingList) -> tuple[LogSnapshot | None, History]:
    """The table and its history in one pass over the log, in two where it is damaged."""
    found = FindingList()
    walk = HistoryWalk(found)
    try:
        snapshot: LogSnapshot | None = reader.snapshot(watch=walk.step)
    except LogDamaged:
        found = FindingList()
        snapshot, walk = _snapshot(reader, found), HistoryWalk(found)
        if snapshot is not None:
            walk.run(reader.commits(reader.first_retained(), snapshot.version))
    if snapshot is not None:
        walk.compare(snapshot.txns)
    findings.take(found)
    return snapshot, walk.history


def _snapshot(reader: LogReader, findings: FindingList) -> LogSnapshot | None:
    version: int | None = None
    while True:
        try:
            return reader.snapshot(version)
        except LogDamaged as error:
            where = str(error.context.get("file", reader.path))
            findings.add(
                Finding("log_damaged", where, "a whole commit file", error.message, error.hint)
            )
            damaged = int(error.context["version"])
            if error.context.get("kind") == "checkpoint" or damaged == 0:
                return None
            version = damaged - 1


def _tolerated(note: str) -> Finding:
    if note.startswith("checkpoint") and "cannot be read" in note:
        hint = "set the damaged checkpoint aside and write a new one: other readers stop at it"
        return Finding("log_tolerated", "_delta_log", "a readable checkpoint", note, hint)
    hint = "nothing is lost: the next checkpoint sets it right"
    return Finding("log_tolerated", "_delta_log", "a whole file", note, hint, NOTICE)


def accounts(txns: Mapping[str, int], findings: FindingList) -> tuple[PartitionAccount, ...]:
    """The accounts in a table's txns, in order of pipeline and partition."""
    values: dict[tuple[str, SourcePartition], dict[str, int]] = {}
    for app, value in txns.items():
        if found := parse_app_id(app):
            values.setdefault((found.pipeline, found.source), {})[found.name] = value
    result = []
    for (pipeline, source), known in sorted(values.items()):
        state = state_from_values(known)
        if state is None:
            missing = ", ".join(sorted({"next", "origin"} - set(known)))
            where = f"{pipeline}, {source}"
            findings.add(Finding("ledger", where, "next and origin", f"no {missing}", _REWIND))
        else:
            result.append(PartitionAccount.of(pipeline, source, state))
    for source, times in Counter(p.source for p in result).items():
        if times > 1:
            found_in = ", ".join(p.pipeline for p in result if p.source == source)
            hint = "two pipelines read the partition into this table: every record is in it twice"
            findings.add(Finding("ledger", str(source), "one pipeline", found_in, hint))
    return tuple(result)


def check_equation(partitions: tuple[PartitionAccount, ...], findings: FindingList) -> None:
    """``next - origin = rows + dead + absent + lost + dropped`` for each partition."""
    for one in partitions:
        if not one.balanced:
            parts = one.counts
            findings.add(
                Finding(
                    "equation",
                    f"{one.pipeline}, {one.source}",
                    f"{one.next - one.origin} offsets in [{one.origin}, {one.next})",
                    f"{parts.total} = {parts.rows} rows + {parts.dead} dead + {parts.absent} absent"
                    f" + {parts.lost} lost + {parts.dropped} dropped",
                    _REWIND,
                )
            )


def table_path(path: str) -> str:
    """The place of a log's path in the table's folder."""
    return posixpath.normpath(unquote(path))


def _check_paths(files: pa.Table, findings: FindingList) -> None:
    paths = [table_path(p) for p in files.column("path").to_pylist()]
    if len(set(paths)) == len(paths):
        return
    for path, times in Counter(paths).items():
        if times > 1:
            hint = "one of them must leave the log: its rows are read twice"
            findings.add(Finding("duplicate_file", path, "once", f"{times} times", hint))


def live_rows(files: pa.Table, store: LogFiles, findings: FindingList) -> tuple[int | None, int]:
    """Rows of live files, and how many footers were read for want of statistics.

    None for the rows when a footer that is needed cannot be read; that is a finding.
    """
    counts = files.column("num_records")
    total = int(pc.sum(counts).as_py() or 0) - int(
        pc.sum(files.column("deleted_records")).as_py() or 0
    )
    unknown = files.filter(pc.is_null(counts)).column("path").to_pylist()
    readable = True
    for path in unknown:
        try:
            with store.open(table_path(path)) as file:
                total += pq.ParquetFile(file).metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            readable = False
            hint = "restore the file from a copy"
            findings.add(Finding("file", path, "a readable footer", _first_line(error), hint))
    return (total if readable else None), len(unknown)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
