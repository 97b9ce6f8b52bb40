"""One operation in a turn of the owner of a table that a pipeline feeds (ADR 34).

Plain Python over ports, as :mod:`raylake.tables.running` for tables that no pipeline feeds.
"""

from __future__ import annotations

import uuid
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final, Protocol

from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import TurnOver
from raylake.delta.rewritten import FilesChanged, Rewritten, RowsOfBoth
from raylake.errors import Fenced, RayLakeError
from raylake.ingest.ports import OwnerLost
from raylake.tables.errors import OutcomeUnread, SlotClosed, TopicRecreated, WriteConflict
from raylake.tables.proposals import Proposal
from raylake.tables.results import OperationResult
from raylake.tables.running import Order, RunnerLost, lost_for_good

TRIES: Final = 4
"""How often an operation is done again on what is there then."""


class OwnersTurns(Protocol):
    """The turns of whoever owns one table now."""

    def take(self, request: str) -> Grant:
        """Wait for a turn.

        Raises:
            OwnerLost: The owner is gone; nothing was begun.
            AlreadyRunning: The table's pipeline runs where it cannot be asked.
            SlotsTaken: Too many wait.
        """
        ...

    def commit(self, rewritten: Rewritten) -> Verdict:
        """Let the owner that granted the turn commit what it led to.

        Raises:
            OwnerLost: The owner is gone.
            Fenced: It is an owner no more.
            TurnOver, FilesChanged: Nothing was committed.
            RayLakeError: It could not be committed, or that could not be told.
        """
        ...

    def ended(self, request: str) -> Verdict | None:
        """Give a turn up; what the log says of it. None: the owner does not know it.

        Raises:
            OwnerLost: The owner is gone.
            RayLakeError: It could not be told.
        """
        ...

    def settled_by_epoch(self, grant: Grant) -> Verdict:
        """What became of a turn whose owner is gone: a newer one's epoch is in the log first."""
        ...

    def data_commits(self, after_version: int, before_version: int) -> int:
        """How many versions between two of them brought rows.

        Raises:
            RayLakeError: The log could not be read.
        """
        ...


class Proposer(Protocol):
    """Carries orders out in a process of its own, without committing."""

    def propose(self, order: Order) -> Proposal:
        """Carry it out.

        Raises:
            RunnerLost: Its process is gone.
            RayLakeError: As :func:`raylake.tables.proposals.propose`.
        """
        ...


def under_turn(turns: OwnersTurns, proposer: Proposer, order: Order) -> OperationResult:
    """Run an order in a turn of the table's owner; done again where something came between.

    It covers the version that it read: rows that are ingested while it runs come after it.

    Raises:
        OutcomeUnread: The log could not be asked.
        TableError: The operation was refused or failed; the table is as it was.
        RayLakeError: The owner could not be had; nothing was begun.
    """
    for tries in range(1, TRIES):
        with suppress(FilesChanged, TurnOver):
            return replace(_once(turns, proposer, order), attempts=tries)
    try:
        return replace(_once(turns, proposer, order), attempts=TRIES)
    except FilesChanged as error:
        raise WriteConflict(error.message, hint=error.hint, **error.context) from error
    except RowsOfBoth as error:
        raise TopicRecreated(error.message, hint=error.hint, **error.context) from error
    except TurnOver as error:
        raise SlotClosed(error.message, hint=error.hint, **error.context) from error


def _once(turns: OwnersTurns, proposer: Proposer, order: Order) -> OperationResult:
    request = uuid.uuid4().hex
    with ExitStack() as given_back:
        # Also where somebody presses Ctrl-C: nobody else would end the request.
        given_back.callback(_give_back, turns, request)
        grant = turns.take(request)
        try:
            proposal = proposer.propose(replace(order, request=request))
        except RunnerLost as error:
            # Only the owner commits: what a lost worker wrote is of no table.
            raise lost_for_good(order, error) from error
        if proposal.rewritten is None:
            return proposal.result
        verdict = _committed(turns, grant, proposal.rewritten)
        given_back.pop_all()
    if verdict.version is None:
        raise TurnOver(
            f"{order.table}: {order.name}: the owner left before it was committed",
            hint="nothing was changed; run it again",
        )
    return _told(turns, proposal.result, verdict.version)


def _committed(turns: OwnersTurns, grant: Grant, rewritten: Rewritten) -> Verdict:
    try:
        return turns.commit(rewritten)
    except (FilesChanged, TurnOver):
        raise
    except RayLakeError as error:
        failure = error
    gone = isinstance(failure, OwnerLost | Fenced)
    try:
        verdict = turns.settled_by_epoch(grant) if gone else _asked_again(turns, grant)
    except RayLakeError as unknown:
        raise OutcomeUnread(
            f"what became of {rewritten.operation} cannot be told: {unknown.message}",
            hint=f"look for batch {grant.request} in the versions after {grant.base_version} "
            "before the operation is repeated",
            batch=grant.request,
            after_version=grant.base_version,
        ) from failure
    if verdict.version is None and not gone:
        raise failure
    return verdict


def _asked_again(turns: OwnersTurns, grant: Grant) -> Verdict:
    with suppress(OwnerLost, Fenced):
        found = turns.ended(grant.request)
        if found is not None:
            return found
    return turns.settled_by_epoch(grant)


def _give_back(turns: OwnersTurns, request: str) -> None:
    with suppress(RayLakeError):
        turns.ended(request)


def _told(turns: OwnersTurns, result: OperationResult, version: int) -> OperationResult:
    read = result.version_before
    try:
        came = turns.data_commits(read, version)
        late = f"it covers version {read}; {came} came with rows while it ran" if came else ""
    except RayLakeError:
        # It is done all the same.
        late = f"it covers version {read}; whether rows came while it ran could not be read"
    note = "; ".join(filter(None, (result.note, late)))
    return replace(result, version_before=version - 1, version_after=version, note=note)
