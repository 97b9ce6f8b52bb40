"""The owner of a table that no pipeline feeds: it takes the epoch and grants slots (DESIGN §6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deltalake import DeltaTable

from raylake.clock import Clock
from raylake.delta.attempts import Draft
from raylake.delta.features import refuse_retention
from raylake.delta.identity import COURTEOUS, Claim, OwnerIdentity
from raylake.delta.log_guard import check_tail, refuse_replaced
from raylake.delta.metadata import last_metadata
from raylake.delta.opening import beside, open_table, refuse_claim
from raylake.delta.owner_core import OwnerCore
from raylake.delta.owner_slots import Grant
from raylake.delta.probe import probe_store
from raylake.delta.reading import readable
from raylake.delta.spec import Durability
from raylake.errors import LogDamaged, UnsupportedTable
from raylake.storage.place import Place, place

_IN_COMMIT_TIMES: Final = "delta.enableInCommitTimestamps"


class SlotTable:
    """A :class:`~raylake.delta.slot_owner.SlotLog` over a table's log.

    Args:
        core: The table's handle, with this owner's epoch in the log.
    """

    def __init__(self, core: OwnerCore) -> None:
        self._core = core

    @classmethod
    def attach(
        cls,
        path: str,
        identity: OwnerIdentity,
        *,
        clock: Clock,
        durability: Durability = "sync",
        claim: Claim = COURTEOUS,
    ) -> SlotTable:
        """Open a table that is there and commit a new epoch, alone; it may be the first one.

        Args:
            path: The table's address.
            identity: This owner.
            clock: Time.
            durability: As for :class:`~raylake.delta.owned_table.OwnedTable`.
            claim: By what right it is taken from an owner that may be alive.

        Raises:
            NotOurTable: There is no table.
            UnsupportedTable: Its log takes no txn of ours; names the feature.
            AlreadyRunning: Another owner committed a moment ago; nothing was changed.
            LogDamaged, DependencyUnreachable: The log cannot be read or written.
        """
        root = place(path)
        probe_store(beside(root))
        with readable(root):
            check_tail(root)
        table = open_table(root)
        _refuse(table, root)
        core = OwnerCore(
            table, root, identity, clock=clock, durability=durability, refuse=refuse_replaced
        )

        def take() -> None:
            core.reload()
            last = last_metadata(root) or {}
            refuse_claim(root, identity, claim, last, clock.now())
            core.watermark_ms = last.get("watermark_ms")
            core.take_epoch(first=True)

        with readable(root):
            core.until_landed(take)
        return cls(core)

    @property
    def number(self) -> int:
        """The owner number of the newest commit of this owner, or of its slots."""
        return self._core.number

    @property
    def version(self) -> int:
        """The newest version that was read or written."""
        return self._core.version

    @property
    def table_id(self) -> str:
        """The table's id in its metadata."""
        return self._core.table_id

    @property
    def epoch(self) -> int:
        """This owner's epoch."""
        return self._core.epoch

    def refresh(self) -> None:
        """See :meth:`raylake.delta.slot_owner.SlotLog.refresh`."""
        self._core.refresh()

    def landed(self, grant: Grant) -> int | None:
        """See :meth:`raylake.delta.slot_owner.SlotLog.landed`."""
        return self._core.slot_landed(grant.number, grant.base_version)

    def close(self, grant: Grant) -> int | None:
        """See :meth:`raylake.delta.slot_owner.SlotLog.close`."""
        closing = _Closing(self._core, grant)
        self._core.until_landed(closing.once)
        self._core.sync()
        return closing.found


@dataclass(slots=True)
class _Closing:
    """One slot's number is taken from its runner, or found in the log."""

    core: OwnerCore
    grant: Grant
    found: int | None = None

    def once(self) -> None:
        if self.core.number == self.grant.number:
            # A try before this one has landed.
            return
        self.found = self.core.slot_landed(self.grant.number, self.grant.base_version)
        if self.found is None:
            try:
                self.core.refresh()
            except LogDamaged:
                # The runner's commit may have come between the two looks.
                self.found = self.core.slot_landed(self.grant.number, self.grant.base_version)
                if self.found is None:
                    raise
                return
            extra = {"request": self.grant.request}
            self.core.write(Draft("slot_closed", extra=extra), lambda _version: None)


def _refuse(table: DeltaTable, root: Place) -> None:
    """Refuse a log that cannot take an epoch of ours, or would lose it."""
    configuration = dict(table.metadata().configuration)
    refuse_retention(configuration, str(root))
    if configuration.get(_IN_COMMIT_TIMES) == "true":
        raise UnsupportedTable(
            f"{root}: the table uses inCommitTimestamp: each of its commits must carry a time that "
            "delta-rs does not write",
            hint="work on it with the engine that made it",
            feature="inCommitTimestamp",
        )
