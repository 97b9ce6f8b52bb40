"""The dead-letter table: files that data commits named are added, exactly once (I5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Self, Unpack

import pyarrow as pa

from raylake import faults
from raylake.delta.attempts import Draft
from raylake.delta.checkpointer import Checkpointer
from raylake.delta.identity import OwnerIdentity
from raylake.delta.ledger import PREFIX
from raylake.delta.opening import Attaching, attach_core
from raylake.delta.owner_core import Contended, OwnerCore
from raylake.delta.owner_moves import cut_files
from raylake.delta.owner_steps import add_columns_once, release_once
from raylake.delta.pending import DeadLetterCommit, PendingDeadLetters, Replacement, Withdrawn
from raylake.delta.reading import readable
from raylake.delta.schema import arrow_schema
from raylake.delta.spec import TableSpec
from raylake.delta.unit_check import check_file
from raylake.delta.withdrawing import find_letters
from raylake.errors import LogDamaged
from raylake.ingest.unit import DataFile

log = logging.getLogger(__name__)

DEAD_LETTER_PARTITION_BY = ("date", "hour", "pipeline", "stage")

DEAD_LETTER_SCHEMA = pa.schema(
    [
        ("pipeline", pa.string()),
        ("table", pa.string()),
        ("topic", pa.string()),
        ("topic_id", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("error_class", pa.string()),
        ("failed_at", pa.timestamp("us", tz="UTC")),
        ("unit_id", pa.string()),
        ("date", pa.date32()),
        ("hour", pa.int32()),
    ]
)
"""The columns of every dead-letter table; a replay needs coordinates, raw bytes and reason."""

REPLAY_COLUMNS = pa.schema(
    [
        ("attempts", pa.int32()),
        ("replay_id", pa.string()),
        ("replayed_at", pa.timestamp("us", tz="UTC")),
        ("fix", pa.string()),
        ("failed_stage", pa.string()),
    ]
)
"""What a replay writes on a letter: how many looked at it; the last one, when, with which fix; and,
where it became a row, the stage that it had failed at. The first replay adds the columns."""

REPLAYED_SCHEMA = pa.schema([*DEAD_LETTER_SCHEMA, *REPLAY_COLUMNS])
"""The columns of letters that a replay has looked at."""

STATS_COLUMNS = ("topic", "partition", "offset", "timestamp", "failed_at")


def dead_letter_spec(path: str) -> TableSpec:
    """The dead-letter table at a path."""
    properties = {
        "delta.dataSkippingStatsColumns": ",".join(STATS_COLUMNS),
        "delta.logRetentionDuration": "interval 86400 seconds",
    }
    return TableSpec(path, DEAD_LETTER_SCHEMA, DEAD_LETTER_PARTITION_BY, properties)


class DeadLetterTable:
    """The owner of one dead-letter table, under the same epoch rule as any other (I3).

    Each data table has the txn ``raylake/<table id>`` here: the data version up to which its dead
    letters were added. Not thread-safe.

    Attributes:
        keep_from: Tells the first version whose log entry somebody still reads; its own by default.
    """

    def __init__(self, core: OwnerCore, spec: TableSpec, checkpointer: Checkpointer) -> None:
        self._core = core
        self._spec = spec
        self._checkpointer = checkpointer
        self._added: dict[str, int] = {}
        self.keep_from: Callable[[], int] = lambda: self.version

    @classmethod
    def attach(
        cls,
        path: str,
        identity: OwnerIdentity,
        *,
        checkpoint_interval_commits: int = 100,
        **attaching: Unpack[Attaching],
    ) -> Self:
        """Open or create the table and commit a new epoch; as ``OwnedTable.attach``."""
        spec = dead_letter_spec(path)
        core = attach_core(spec, identity, **attaching)
        interval = checkpoint_interval_commits
        return cls(core, spec, Checkpointer(path, interval_commits=interval, clock=core.clock))

    @property
    def schema(self) -> pa.Schema:
        """What dead-letter files are written with."""
        return arrow_schema(self._core.table.schema())

    @property
    def version(self) -> int:
        """The newest version that this owner knows."""
        return self._core.version

    @property
    def path(self) -> str:
        """The table's folder."""
        return self._spec.path

    def stored_version(self, table_id: str) -> int:
        """The data version up to which a table's dead letters are in here; -1 for none."""
        if table_id not in self._added:
            with readable(self._core.root):
                stored = self._core.table.transaction_version(app_of(table_id))
            self._added[table_id] = -1 if stored is None else int(stored)
        return self._added[table_id]

    def add(self, table_id: str, version: int, files: Sequence[DataFile]) -> bool:
        """Add the files that one data version named; idempotent.

        Without files only the position moves, so that the data log may be cleaned up.

        Returns:
            False when the version was added before.

        Raises:
            Fenced: A newer owner exists; stop for good.
            LogDamaged: This table was changed under our feet, or a named file is gone.
            DependencyUnreachable: The table cannot be written; nothing was added.
        """
        commit = DeadLetterCommit(version, tuple(files))
        return self._add_all(table_id, (commit,), version)

    def redo(self, table_id: str, pending: PendingDeadLetters, *, mark_every: int = 100) -> int:
        """Add what a data log names and this table lacks, take out what rewinds and replays took.

        One commit where there was neither; otherwise in the order of the data table's versions.

        Args:
            table_id: The data table's id.
            pending: Read from the data log after :meth:`stored_version`.
            mark_every: Without files, commit the position once it moved by this many versions.

        Returns:
            The number of files added.

        Raises:
            Fenced, LogDamaged, DependencyUnreachable: As :meth:`add`.
        """
        before = self.stored_version(table_id)
        if not pending.commits and pending.newest - before < mark_every:
            return 0
        fresh = tuple(c for c in pending.commits if c.version > before)
        together: list[DeadLetterCommit] = []
        for commit in fresh:
            if commit.withdrawal is None:
                together.append(commit)
                continue
            if together:
                self._add_all(table_id, together, commit.version - 1)
            self.withdraw(table_id, commit.version, commit.withdrawal)
            together = []
        self._add_all(table_id, together, pending.newest)
        return sum(len(c.files) for c in fresh)

    def withdraw(self, table_id: str, version: int, withdrawal: Withdrawn) -> bool:
        """Take out what a rewind took back, or replace what a replay looked at (I5, I12).

        Idempotent. What was named before that version is in here, what was named after it is not:
        the same offsets may have dead letters again.

        Args:
            table_id: The data table's id.
            version: The version there that says so.
            withdrawal: Which letters.

        Returns:
            False when it was done before.

        Raises:
            Fenced, LogDamaged, DependencyUnreachable: As :meth:`add`.
        """
        faults.reach("dlq.before_commit", table_id=table_id, version=version)
        if isinstance(withdrawal, Replacement):
            self._core.until_landed(lambda: add_columns_once(self._core, REPLAY_COLUMNS))
        done = self._core.until_landed(lambda: self._try_withdraw(table_id, version, withdrawal))
        faults.reach("dlq.after_commit", table_id=table_id, version=version)
        self._checkpointer.committed(self.version, keep_from=min(self.version, self.keep_from()))
        return bool(done)

    def _try_withdraw(self, table_id: str, version: int, withdrawal: Withdrawn) -> bool:
        self._core.refresh()
        if version <= self.stored_version(table_id):
            self._core.sync()
            return False
        found = find_letters(self.path, withdrawal)
        if found.version != int(self._core.table.version()):
            raise Contended(f"{self.path}: version {found.version} came meanwhile")
        extra: dict[str, Any] = {
            "table_id": table_id,
            "data_version": version,
            "files": len(found.cuts),
            "rows": sum(cut.rows for cut in found.cuts),
        }
        draft = Draft("withdraw", {app_of(table_id): version}, extra)
        if isinstance(withdrawal, Replacement):
            extra["replay_id"] = withdrawal.replay_id
            draft = Draft("replayed", draft.values, extra, withdrawal.files)
            for file in withdrawal.files:
                self._check(file, table_id, self.schema)

        def landed(_version: int) -> None:
            self._added[table_id] = version

        if found.cuts:
            cut_files(self._core, found.cuts, draft, landed)
        else:
            self._core.write(draft, landed)
        return True

    def release(self) -> None:
        """Say that this owner leaves (I11); a checkpoint under way may take a while to end."""
        try:
            self._core.until_landed(lambda: release_once(self._core))
        finally:
            self._checkpointer.close()

    def _add_all(self, table_id: str, commits: Sequence[DeadLetterCommit], position: int) -> bool:
        faults.reach("dlq.before_commit", table_id=table_id, version=position)
        added = self._core.until_landed(lambda: self._try_add(table_id, commits, position))
        named = [one.version for one in commits if one.files]
        if added and named:
            log.info(
                "dead letters of table %s up to its version %d are stored",
                table_id,
                position,
                extra={"table_id": table_id, "commits": named},
            )
        faults.reach("dlq.after_commit", table_id=table_id, version=position)
        # The data tables' logs name what a redo needs; this table's own is for further targets.
        self._checkpointer.committed(self.version, keep_from=min(self.version, self.keep_from()))
        return bool(added)

    def _try_add(self, table_id: str, commits: Sequence[DeadLetterCommit], position: int) -> bool:
        self._core.refresh()
        before = self.stored_version(table_id)
        if position <= before:
            self._core.sync()
            return False
        files = [f for c in commits if c.version > before for f in c.files]
        names = REPLAY_COLUMNS.names
        schema = pa.schema([field for field in self.schema if field.name not in names])
        for file in files:
            self._check(file, table_id, schema)
        extra: dict[str, Any] = {
            "table_id": table_id,
            "data_version": position,
            "files": len(files),
            "rows": sum(f.rows for f in files),
        }
        draft = Draft("dead_letters", {app_of(table_id): position}, extra, files)
        self._core.write(draft, lambda _version: self._added.__setitem__(table_id, position))
        return True

    def _check(self, file: DataFile, table_id: str, schema: pa.Schema) -> None:
        stored = pa.schema([f for f in schema if f.name not in DEAD_LETTER_PARTITION_BY])
        reason = check_file(file, self._spec.root, stored, DEAD_LETTER_PARTITION_BY)
        if reason:
            raise LogDamaged(
                f"{self.path}: a dead-letter file that table {table_id} names cannot be added: "
                f"{file.path} {reason}",
                hint="Restore the file; the offsets that it holds are counted as dead letters.",
                path=file.path,
            )


def app_of(table_id: str) -> str:
    """The app id under which a data table's position is kept."""
    return f"{PREFIX}{table_id}"
