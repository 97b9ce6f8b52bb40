"""The dead-letter table against the ledgers that count into it.

It is read before the data tables: what they commit meanwhile is then pending, never too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.ledger import OWNER_APP, PREFIX, parse_app_id
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.pending import REPLAYED, Replacement, Withdrawn
from raylake.delta.verify_history import NamedLetters
from raylake.delta.verify_log import LogAccount, live_rows, table_path
from raylake.delta.verify_model import NOTICE, DeadLetterAccount, Finding, FindingList
from raylake.errors import LogDamaged, NotOurTable

ERASED = "erased"
"""The stage of letters whose bytes were erased: their offsets stay dead ones, and are counted."""

LOST = ("lost",)
"""The stage of rows that stand for ranges of lost offsets."""

NOT_COUNTED = (*LOST, REPLAYED)
"""Stages whose rows tell of something else than a dead record (I5, I6)."""


@dataclass(frozen=True, slots=True)
class LettersTable:
    """The dead-letter table as it was read.

    Attributes:
        path: Its folder; None when the pipeline has none.
        reader: Its reader; None without a path.
        snapshot: Its state; None when there is no table (yet) or its log is damaged.
        files: Live files with dead letters of the pipeline.
        rows: Rows in them.
    """

    path: str | None
    reader: LogReader | None
    snapshot: LogSnapshot | None
    files: pa.Table | None
    rows: int

    def stored_version(self, table_id: str) -> int:
        """The last version of a data table whose dead letters are in here; -1 for none."""
        return -1 if self.snapshot is None else self.snapshot.txns.get(f"{PREFIX}{table_id}", -1)

    def feeders(self) -> set[str]:
        """Ids of the tables whose dead letters are in here."""
        txns = self.snapshot.txns if self.snapshot else {}
        own = {OWNER_APP}
        return {
            app.removeprefix(PREFIX)
            for app in txns
            if app.startswith(PREFIX) and app not in own and parse_app_id(app) is None
        }


@dataclass(frozen=True, slots=True)
class Pending:
    """What a table's commits ask of the dead-letter table and was not done as yet.

    Attributes:
        commits: Commits with dead letters that it lacks.
        rows: Rows in their files.
        withdrawals: Dead letters that rewinds took back or replays replaced and that it still has,
            or that are in such commits before them: the version and which.
    """

    commits: tuple[NamedLetters, ...]
    rows: int
    withdrawals: tuple[tuple[int, Withdrawn], ...] = ()

    @property
    def leaving(self) -> int:
        """Rows that the rewinds and replays saw there."""
        return sum(one.letters for _, one in self.withdrawals)

    def taken_after(self, version: int) -> list[Withdrawn]:
        """What takes dead letters of a commit: what was withdrawn later."""
        return [one for at, one in self.withdrawals if at > version]


def read_letters(path: str | None, pipeline: str, findings: FindingList) -> LettersTable:
    """Read the dead-letter table's log; one that does not exist has no rows."""
    if path is None:
        return LettersTable(None, None, None, None, 0)
    reader = LogReader(path)
    try:
        snapshot = reader.snapshot()
    except NotOurTable:
        return LettersTable(path, reader, None, None, 0)
    except LogDamaged as error:
        where = f"{path}/{error.context.get('file', '')}"
        findings.add(
            Finding("log_damaged", where, "a whole commit file", error.message, error.hint)
        )
        return LettersTable(path, reader, None, None, 0)
    files = _of_pipeline(snapshot.files, pipeline)
    rows, _ = live_rows(files, reader.files, findings)
    paths = [table_path(p) for p in files.column("path").to_pylist()]
    if len(set(paths)) != len(paths):
        where = f"{path}, {len(paths) - len(set(paths))} files"
        findings.add(Finding("duplicate_file", where, "each file once", "a file twice"))
    return LettersTable(path, reader, snapshot, files, rows or 0)


def _of_pipeline(files: pa.Table, pipeline: str) -> pa.Table:
    values = files.column("partition_values")
    owner = pc.map_lookup(values, pa.scalar("pipeline"), "first")
    stage = pc.map_lookup(values, pa.scalar("stage"), "first")
    mine = pc.or_kleene(pc.is_null(owner), pc.equal(owner, pipeline))
    counted = pc.invert(pc.is_in(stage, value_set=pa.array(NOT_COUNTED)))
    return files.filter(pc.and_(mine, counted))


def pending_of(account: LogAccount, letters: LettersTable, findings: FindingList) -> Pending:
    """What the next owner of a table still adds to the dead-letter table; checks that it can."""
    if account.snapshot is None:
        return Pending((), 0)
    stored = letters.stored_version(account.snapshot.metadata.id)
    waiting = tuple(named for named in account.history.letters if named.version > stored)
    rows = 0
    for named in waiting:
        for file in named.files:
            if file.partition_values.get("stage") not in NOT_COUNTED:
                rows += file.rows
            _check_there(letters, file.path, named.version, findings)
    if rows:
        findings.add(
            Finding(
                "dead_letters_pending",
                f"{account.reader.path}, versions {waiting[0].version} to {waiting[-1].version}",
                "0 pending",
                f"{rows} dead letters that are written and named, and not yet in the table",
                "the next run of the pipeline adds them first (or a run is doing so now)",
                NOTICE,
            )
        )
    leaving = tuple(one for one in account.history.withdrawn if one[0] > stored)
    for version, one in leaving:
        findings.add(_leaving(account.reader.path, version, one))
    return Pending(waiting, rows, leaving)


def _leaving(path: str, version: int, one: Withdrawn) -> Finding:
    if isinstance(one, Replacement):
        return Finding(
            "dead_letters_leaving",
            f"{path}, version {version}: replay {one.replay_id}",
            "0 dead letters that it has looked at, as they were before it",
            f"{one.letters} that are not marked in the dead-letter table yet",
            "the next run of the pipeline marks them first, and so does the next `dlq replay`",
            NOTICE,
        )
    ends = ", ".join(f"{source} from {end} on" for source, end in sorted(one.ends.items()))
    return Finding(
        "dead_letters_leaving",
        f"{path}, version {version}: a rewind of {ends}",
        "0 dead letters of these offsets from before it",
        f"{one.letters} that it took back, and that have not left the dead-letter table yet",
        "the next run of the pipeline takes them out first, and so does the next `raylake rewind`",
        NOTICE,
    )


def _check_there(letters: LettersTable, path: str, version: int, findings: FindingList) -> None:
    try:
        if letters.reader is None:
            raise FileNotFoundError("the pipeline has no dead-letter table")
        letters.reader.files.open(table_path(path)).close()
    except OSError as error:
        findings.add(
            Finding(
                "dead_letter_file",
                f"{letters.path}/{path}",
                f"a file, as version {version} names it",
                str(error).split("\n", maxsplit=1)[0],
                "restore the file from a copy, or rewind the table to before that version",
            )
        )


def balance(
    letters: LettersTable,
    tables: Sequence[tuple[LogAccount, Pending]],
    pipeline: str,
    findings: FindingList,
    *,
    whole: bool,
) -> DeadLetterAccount:
    """Dead letters stored and pending against the sum of ``dead`` over the tables.

    Args:
        letters: The dead-letter table.
        tables: The tables' accounts.
        pipeline: The pipeline.
        findings: Where a difference goes.
        whole: Whether ``tables`` are all that feed the dead-letter table; if not, nothing can be
            compared at the level of the log.
    """
    pending = sum(p.rows for _, p in tables)
    dead = sum(
        one.counts.dead
        for account, _ in tables
        for one in account.partitions
        if one.pipeline == pipeline
    )
    version = letters.snapshot.version if letters.snapshot else None
    readable = all(account.snapshot is not None for account, _ in tables)
    expected = dead if whole and readable else None
    leaving = sum(p.leaving for _, p in tables)
    result = DeadLetterAccount(letters.path, version, letters.rows, pending, expected, leaving)
    if not result.balanced:
        findings.add(
            Finding(
                "dead_letters",
                str(letters.path),
                f"{dead} dead letters, by the ledgers",
                f"{letters.rows} stored, {pending} pending and {leaving} leaving",
                _missing_hint(letters, (named for a, _ in tables for named in a.history.letters)),
            )
        )
    return result


def _missing_hint(letters: LettersTable, named: Iterable[NamedLetters]) -> str:
    live = set(letters.files.column("path").to_pylist()) if letters.files is not None else set()
    gone = [f"{f.path} (version {n.version})" for n in named for f in n.files if f.path not in live]
    if not gone:
        return "`--level data` names partitions and offsets"
    more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return f"named by commits and not live under that name: {', '.join(gone[:3])}{more}"
