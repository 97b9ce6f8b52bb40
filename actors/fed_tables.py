"""Operations on tables that a pipeline feeds: in turns of its owner, or of one that stands in."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import ray
from ray.exceptions import RayError

from actors.calls import owner_name, result
from actors.table_slots import SlotSetup
from actors.table_stand_in import TableStandIn
from raylake.client.cluster import NAMESPACE
from raylake.delta import log_files
from raylake.delta.ledger import OWNER_APP, owner_epoch
from raylake.delta.metadata import count_data_commits
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.reading import readable
from raylake.delta.rewritten import Rewritten
from raylake.delta.txn_listing import list_txns
from raylake.errors import AlreadyRunning, DependencyUnreachable, Fenced
from raylake.ingest.ports import OwnerLost
from raylake.storage.place import place
from raylake.tables.errors import OutOfMemory
from raylake.tables.proposals import Proposal
from raylake.tables.running import MemoryExceeded, Order, RunnerLost

T = TypeVar("T")

START_S: Final = 120.0
OWNER_S: Final = 30.0
"""How long an owner is waited for: a pipeline replaces one that is lost within some seconds."""
AGAIN_S: Final = 0.3


def stand_in_name(table_id: str) -> str:
    """The name of the actor that stands in for a table's owner."""
    return f"raylake/stand_in/{table_id}"


class RayTurns:
    """:class:`raylake.tables.under_turn.OwnersTurns` of one table on this cluster.

    Args:
        setup: How a stand-in is made where the pipeline does not run.
        table_id: The table's id.
        worker: The actor that does the work.
    """

    def __init__(self, setup: SlotSetup, table_id: str, worker: Any) -> None:
        self._setup = setup
        self._id = table_id
        self._worker = worker
        self._granted_by: Any = None

    def take(self, request: str) -> Grant:
        """See :meth:`raylake.tables.under_turn.OwnersTurns.take`."""

        def once() -> Grant:
            # Known before it is asked: who gives up meanwhile must tell this one.
            owner = self._granted_by = self._owner()
            grant: Grant = result(owner.take_turn.remote(request, self._worker), None)
            return grant

        return _patiently(once)

    def commit(self, rewritten: Rewritten) -> Verdict:
        """See :meth:`raylake.tables.under_turn.OwnersTurns.commit`."""
        verdict: Verdict = result(self._granted_by.commit_turn.remote(rewritten), None)
        return verdict

    def ended(self, request: str) -> Verdict | None:
        """See :meth:`raylake.tables.under_turn.OwnersTurns.ended`."""
        owner = self._granted_by or self._there()
        if owner is None:
            raise OwnerLost(f"{self._setup.path}: no owner")
        verdict: Verdict | None = result(owner.end_turn.remote(request), START_S)
        return verdict

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        """See :meth:`raylake.tables.under_turn.OwnersTurns.settled_by_epoch`."""
        root = place(self._setup.path)

        def once() -> Verdict:
            with readable(root):
                if owner_epoch(list_txns(root).get(OWNER_APP, 0)) > owner_epoch(grant.number):
                    found = log_files.find_batch(root, grant.request, grant.base_version)
                    return Verdict(grant.request, found)
            # Another one, whose epoch keeps the old one's commits out.
            self._owner()
            raise OwnerLost(f"{self._setup.path}: the next owner has not come yet")

        return _patiently(once)

    def data_commits(self, after_version: int, before_version: int) -> int:
        """See :meth:`raylake.tables.under_turn.OwnersTurns.data_commits`."""
        root = place(self._setup.path)
        with readable(root):
            return count_data_commits(root, after_version, before_version)

    def _owner(self) -> Any:
        """The pipeline's owner where it lives on this cluster, else one that stands in."""
        with suppress(ValueError):
            found = ray.get_actor(owner_name(self._id), namespace=NAMESPACE)
            # Else it is the owner of the time before a pipeline fed the table.
            if hasattr(found, "take_turn"):
                return found
        actor_class: Any = TableStandIn
        options = {"name": stand_in_name(self._id), "namespace": NAMESPACE, "get_if_exists": True}
        try:
            made = actor_class.options(lifetime="detached", **options).remote(self._setup)
        except RayError as error:
            raise DependencyUnreachable(f"{self._setup.path}: no owner: {error}") from error
        result(made.start.remote(), START_S)
        return made

    def _there(self) -> Any:
        for name in (owner_name(self._id), stand_in_name(self._id)):
            with suppress(ValueError):
                return ray.get_actor(name, namespace=NAMESPACE)
        return None


class WorkerProposer:
    """:class:`raylake.tables.under_turn.Proposer` in a worker actor.

    Args:
        worker: The actor.
        limit_bytes: As :meth:`actors.table_worker.TableWorker.run`.
    """

    def __init__(self, worker: Any, limit_bytes: int) -> None:
        self._worker = worker
        self._limit_bytes = limit_bytes

    def propose(self, order: Order) -> Proposal:
        """See :meth:`raylake.tables.under_turn.Proposer.propose`."""
        try:
            found: Proposal = result(self._worker.run.remote(order, self._limit_bytes), None)
        except OwnerLost as error:
            raise RunnerLost(f"its process was lost: {error.message}") from error
        except MemoryExceeded as error:
            raise OutOfMemory(
                f"{error.message}; the table is unchanged",
                hint="give it more memory, or put fewer rows in one operation",
            ) from error
        return found


def _patiently(ask: Callable[[], T]) -> T:
    """What an owner answers; one that leaves, or is being replaced, is followed by the next.

    Raises:
        OwnerLost, Fenced, AlreadyRunning: Each of them, for :data:`OWNER_S`.
    """
    until = time.monotonic() + OWNER_S
    while time.monotonic() < until:
        with suppress(OwnerLost, Fenced, AlreadyRunning):
            return ask()
        time.sleep(AGAIN_S)
    return ask()
