"""The core of a table's owner: one handle, the owner number, and a strict compare-and-swap.

Every commit of ours on a table goes through :meth:`OwnerCore.write`, from the handle on which
:meth:`OwnerCore.refresh` checked the owner number (commit rule, steps 1, 2, 5 and 6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from raylake import faults
from raylake.clock import Clock
from raylake.delta import log_files, metadata
from raylake.delta.attempts import Attempt, Attempts, Draft, Ending
from raylake.delta.identity import OwnerIdentity
from raylake.delta.ledger import OWNER_APP, owner_epoch, owner_number
from raylake.delta.log_guard import LogGuard, Refusing
from raylake.delta.reading import readable
from raylake.delta.spec import Durability
from raylake.errors import (
    DependencyUnreachable,
    Fenced,
    LogDamaged,
    RayLakeError,
    Retryable,
)
from raylake.ingest.retry import Retrier, RetryPolicy
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
ATTEMPTS = 10
FIRST_BACKOFF_S = 0.02
MAX_BACKOFF_S = 2.0
CONFLICTS = RetryPolicy("exponential", ATTEMPTS, FIRST_BACKOFF_S, MAX_BACKOFF_S)


class Contended(Retryable):
    """Another commit took the version; nothing of ours was written."""

    code = "contended"


class OwnerCore:
    """A table's handle and this owner's place in the owner txn.

    Not thread-safe: one owner process calls it from one thread at a time.
    """

    def __init__(
        self,
        table: DeltaTable,
        root: Place,
        identity: OwnerIdentity,
        *,
        clock: Clock,
        durability: Durability,
        conflicts: RetryPolicy = CONFLICTS,
        refuse: Refusing | None = None,
    ) -> None:
        self.table = table
        self.root = root
        self.identity = identity
        self.clock = clock
        self.durability = durability
        self.number = -1
        self.table_id = str(table.metadata().id)
        self.partition_by = tuple(table.metadata().partition_columns)
        self.watermark_ms: int | None = None
        self._attempts = Attempts(root)
        self._unsynced: int | None = None
        self._guard = LogGuard(root, self.table_id, int(table.version()), refuse)
        self.conflicts = Retrier("conflicts", conflicts, clock, only=Contended)

    @property
    def epoch(self) -> int:
        """This owner's epoch."""
        return owner_epoch(self.number)

    @property
    def version(self) -> int:
        """The newest version that this owner has read or written."""
        return self._guard.version

    def stored_number(self) -> int | None:
        """``raylake/owner`` on the handle; None when the table has none."""
        value = self.table.transaction_version(OWNER_APP)
        return None if value is None else int(value)

    def take_epoch(self, *, first: bool = False) -> None:
        """Commit the epoch after the one on the handle, alone (I3).

        Args:
            first: Whether the table may be without an owner number so far.

        Raises:
            Contended: Another commit came first; nothing was written.
            LogDamaged: The table has lost its owner number.
        """
        stored = self.stored_number()
        if stored is None and not first:
            raise self._guard.replaced(f"{OWNER_APP} is gone")
        self.number = 0 if stored is None else stored
        number = owner_number(owner_epoch(self.number) + 1, 0)
        self._swap(Draft("epoch"), number, lambda _version: None)

    def reload(self) -> None:
        """Read what is new without any check; for a new owner, before its epoch commit.

        Raises:
            LogDamaged, DependencyUnreachable: The log cannot be read.
        """
        self._settle()
        self._update()
        self._guard.seen_version = int(self.table.version())

    def slot_landed(self, number: int, after_version: int) -> int | None:
        """The version that a slot's operation made, as the log is now; then it counts as ours.

        Args:
            number: The slot's number.
            after_version: The version that it was granted at.

        Raises:
            LogDamaged: The log has the number, and no version of it or of ours carries it.
            DependencyUnreachable: The log could not be read.
        """
        self._settle()
        version, stored = _slot_version(self, self._update, number, after_version)
        if version is None and stored == number:
            # Then it was a commit of this owner's that closed the slot.
            self._check_number()
        if version is not None and stored == number:
            self.number = number
            self._guard.slot_wrote(version, OWNER_APP, number)
        return version

    def add_columns(self, fields: list[Any], properties: CommitProperties) -> None:
        """Add nullable columns on this owner's handle, nested fields merged into structs."""
        self.table.alter.add_columns(
            fields, commit_properties=properties, post_commithook_properties=NO_HOOKS
        )

    def refresh(self) -> None:
        """Read what is new and check that this owner still owns the table (steps 1 and 2).

        Raises:
            Fenced: A newer owner has committed its epoch; this one must stop for good.
            LogDamaged: A commit of ours is lost or overwritten, the log is torn, or the table
                was restored, overwritten or created again.
            DependencyUnreachable: The log could not be read.
        """
        self._settle()
        with readable(self.root):
            self._guard.check_own_commit()
            self._update()
            if str(self.table.metadata().id) != self.table_id:
                raise self._guard.replaced("another table id")
            self._check_number()
            self._guard.check_foreign(int(self.table.version()))

    def write(self, draft: Draft, landed: Callable[[int], None]) -> int:
        """Commit once, on the handle that :meth:`refresh` checked; a strict compare-and-swap.

        Args:
            draft: What to commit.
            landed: Called with the version as soon as the commit is known to be in the log, also
                when that is found out only by a later call.

        Returns:
            The version, durable where the owner's durability is ``sync``.

        Raises:
            Contended: Another commit took the version; refresh, check and try again.
            DependencyUnreachable: The store refused; nothing was written.
            OutcomeUnknown: The log could not be read after an error; the next call settles it.
        """
        return self._swap(draft, self.number + 1, landed)

    def until_landed(self, one_try: Callable[[], Any]) -> Any:
        """Run ``one_try`` until no other commit comes between, bounded, with jitter (step 6).

        A store that refuses is not tried again here: that is the caller's retry policy.

        Raises:
            Contended: The last failure, when the policy for conflicts is used up.
        """
        return self.conflicts.call(one_try)

    def evolve_with(
        self,
        change: Callable[[CommitProperties], None],
        draft: Draft,
        landed: Callable[[int], None] = lambda _version: None,
    ) -> int:
        """Run another change than an append as a commit of ours; as :meth:`write`."""
        return self._attempt(draft, self.number + 1, landed, change)

    def sync(self) -> None:
        """Make our newest commit durable; returns when it is."""
        if self._unsynced is None:
            return
        if self.durability == "sync":
            try:
                log_files.sync_commit(self.root, self._unsynced)
            except OSError as error:
                raise DependencyUnreachable(
                    f"{self.root}: version {self._unsynced} is committed but not yet durable: "
                    f"{error}"
                ) from error
        self._unsynced = None

    def _swap(self, draft: Draft, number: int, landed: Callable[[int], None]) -> int:
        actions = [add_action(f, self.clock) for f in draft.files]

        def transact(properties: CommitProperties) -> None:
            self.table.create_write_transaction(
                actions,
                "append",
                self.table.schema(),
                partition_by=list(self.partition_by),
                commit_properties=properties,
                post_commithook_properties=NO_HOOKS,
            )

        return self._attempt(draft, number, landed, transact)

    def _attempt(
        self,
        draft: Draft,
        number: int,
        landed: Callable[[int], None],
        transact: Callable[[CommitProperties], None],
    ) -> int:
        base_version = int(self.table.version())
        attempt = Attempt(draft, base_version, number, landed)
        self._attempts.begin(attempt)
        properties = _properties(draft, number, self)
        faults.reach("owner.after_check", kind=draft.kind, batch=draft.batch)
        with Ending(lambda error: self._ended(attempt, error)):
            transact(properties)
        faults.reach("owner.after_commit", kind=draft.kind, batch=draft.batch)
        self.sync()
        return self.version

    def _ended(self, attempt: Attempt, error: Exception | None) -> None:
        if error is None:
            self._land(self._attempts.decided(attempt), attempt.base_version + 1)
        elif not self._settle():
            raise _not_committed(self.root, attempt.base_version, error) from error

    def _settle(self) -> bool:
        """Find out from the log whether the attempt under way landed."""
        found = self._attempts.settled()
        if found is not None:
            self._land(*found)
        return found is not None

    def _land(self, attempt: Attempt, version: int) -> None:
        self.number = attempt.number
        self._guard.wrote(version, attempt.draft.batch)
        self._unsynced = version
        attempt.landed(version)

    def _update(self) -> None:
        try:
            self.table.update_incremental()
        except (DeltaError, OSError) as error:
            self._guard.name_damage()
            raise DependencyUnreachable(
                f"{self.root}: the table's log cannot be read: {_first_line(error)}"
            ) from error

    def _check_number(self) -> None:
        stored = self.stored_number()
        if stored == self.number:
            return
        if stored is not None and owner_epoch(stored) > self.epoch:
            raise _fenced(self, stored)
        if (late := self._attempts.late(stored)) is not None:
            self._land(*late)
            return
        raise LogDamaged(
            f"{self.root}: a commit was lost or overwritten: raylake/owner is {stored}, the last "
            f"commit of this owner wrote {self.number}",
            hint="Stop every other writer of this table and run 'raylake verify'.",
            stored=stored,
            expected=self.number,
        )


def _slot_version(
    core: OwnerCore, update: Callable[[], None], number: int, after: int
) -> tuple[int | None, int | None]:
    """The version that carries a slot's number, and the number that the handle now has."""
    with readable(core.root):
        version = log_files.find_foreign_txn(core.root, OWNER_APP, number, after)
        update()
        stored = core.stored_number()
        if version is None and stored == number:
            # It may have landed between the two looks.
            version = log_files.find_foreign_txn(core.root, OWNER_APP, number, after)
    return version, stored


def _fenced(core: OwnerCore, stored: int) -> Fenced:
    last = metadata.last_metadata(core.root) or {}
    holder = OwnerIdentity.from_json(last.get("identity") or {})
    return Fenced(
        f"{core.root}: {holder} took the table over, owner epoch {owner_epoch(stored)}; "
        f"this owner of run {core.identity.run_id} has epoch {core.epoch}",
        hint="This owner stops for good; the newer one carries on.",
        epoch=core.epoch,
        stored=stored,
        holder=holder.to_json(),
    )


def _properties(draft: Draft, number: int, core: OwnerCore) -> CommitProperties:
    document = {
        **metadata.base(draft.kind, draft.batch, number, core.identity),
        "at_s": round(core.clock.now(), 3),
        "watermark_ms": core.watermark_ms,
        **draft.extra,
    }
    transactions = [Transaction(OWNER_APP, number)]
    transactions += [Transaction(app, value) for app, value in sorted(draft.values.items())]
    return CommitProperties(
        custom_metadata={metadata.KEY: document},
        max_commit_retries=0,
        app_transactions=transactions,
    )


def add_action(file: DataFile, clock: Clock, *, data_change: bool = True) -> AddAction:
    """A file as delta-rs adds it; ``data_change``: whether its rows are not in the table yet."""
    # delta-rs encodes the path itself, so it gets the one on the disk.
    return AddAction(
        unquote(file.path),
        file.size_bytes,
        dict(file.partition_values),
        int(clock.now() * 1000),
        data_change,
        file.stats,
    )


def _not_committed(root: Place, base_version: int, error: Exception) -> RayLakeError:
    if isinstance(error, RayLakeError):
        return error
    with readable(root):
        taken = log_files.mark(log_files.commit_path(root, base_version + 1)) is not None
    if taken:
        return Contended(f"{root}: another commit took version {base_version + 1}")
    return DependencyUnreachable(
        f"{root}: version {base_version + 1} could not be written: {_first_line(error)}",
        hint="It is not in the log. Check free space and permissions of the table's folder.",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
