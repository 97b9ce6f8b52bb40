"""The plan of a table's upkeep: jobs with their price, and what is let be with the reason.

Nothing is changed by planning, and no data is read: the log says it all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from raylake.config.cron import parse_cron
from raylake.delta.checkpoint import MAX_LOG_FILES, clean_up_floor
from raylake.delta.leases import Leases
from raylake.delta.log_reader import LogReader
from raylake.delta.version_pins import needed_from
from raylake.maintenance.actions import Action, Refusal
from raylake.maintenance.debt import (
    WORTH_A_CHECKPOINT,
    Debt,
    LogTail,
    Measured,
    debt_of,
    expired,
    log_tail,
    measured,
)
from raylake.maintenance.kept_state import keep, kept, worth_keeping
from raylake.maintenance.policy import Policy, log_retention_s
from raylake.maintenance.price import Price, checkpoint_price, deletion_price
from raylake.maintenance.rewrites import Found, compactions, zorders
from raylake.maintenance.table_state import Reading, TableState, read_state
from raylake.storage.place import Place, place
from raylake.tables.errors import BadRequest

_CLEAN_UP: Final = "delta.enableExpiredLogCleanup"


@dataclass(frozen=True, slots=True)
class Looked:
    """A table's debt, and how it was come by.

    Attributes:
        state: The table.
        debt: What it owes.
        reading: What was read for it.
        tail: Its log.
        found: Its files by partition.
        note: Why the state was not kept; empty where it was, or need not be.
        unsorted: Why the table cannot be Z-ordered as its policy says; empty where it can.
    """

    state: TableState
    debt: Debt
    reading: Reading
    tail: LogTail
    found: Measured
    note: str = ""
    unsorted: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be done to a table.

    Attributes:
        debt: Why.
        actions: Jobs, in the order in which they should run.
        refusals: What is let be.
        notes: What else there is to say.
        cpu: The part of the CPUs that a job may take.
    """

    debt: Debt
    actions: tuple[Action, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    cpu: float

    @property
    def price(self) -> Price:
        """Of all jobs."""
        return sum((one.price for one in self.actions), Price())


def look(
    address: str, policy: Policy, *, at: Place | None = None, now_s: float | None = None
) -> Looked:
    """A table's debt, from the state that is kept of it and the commits since.

    Args:
        address: The table.
        policy: What is due when.
        at: Where its state is kept; None: it is read anew, and not kept.
        now_s: The time, seconds since the epoch.

    Raises:
        RayLakeError: As :func:`~raylake.maintenance.table_state.read_state`.
    """
    reader = LogReader(address)
    now_s = time.time() if now_s is None else now_s
    known = None if at is None else kept(at)
    note = unsorted = ""
    try:
        state, reading = read_state(reader, policy.zorder, known)
    except BadRequest as error:
        if not policy.zorder_may_wait:
            raise
        unsorted = error.message + (f" ({error.hint})" if error.hint else "")
        state, reading = read_state(reader, (), known)
    if at is not None and worth_keeping(state, reading):
        try:
            keep(at, state)
        except OSError as error:
            note = f"{at} cannot be written, so the next plan reads as much again: {error}"
    tail = log_tail(state, reader, reading.listing, now_s)
    found = measured(state, policy, address)
    debt = debt_of(state, found, tail, policy, now_s)
    return Looked(state, debt, reading, tail, found, note, unsorted)


def plan(
    address: str, policy: Policy, *, at: Place | None = None, now_s: float | None = None
) -> Plan:
    """What should be done to a table; nothing is.

    Args:
        address: The table.
        policy: What is due when, and how large a job may be.
        at: As for :func:`look`.
        now_s: The time, seconds since the epoch.

    Raises:
        RayLakeError: As :func:`~raylake.maintenance.table_state.read_state`.
        LeaseUnread: What a reader needs cannot be told.
    """
    now_s = time.time() if now_s is None else now_s
    seen = look(address, policy, at=at, now_s=now_s)
    found = Found()
    if seen.unsorted:
        found.refusals.append(Refusal("zorder", seen.unsorted))
    zorders(seen.found, policy, found)
    compactions(seen.found, policy, found)
    _checkpoint(seen, found)
    notes = [*seen.debt.notes, *([seen.note] if seen.note else [])]
    notes += _vacuum(place(address), seen.state, policy, now_s, found)
    _clean_log(place(address), seen, found, now_s)
    return Plan(seen.debt, tuple(found.actions), tuple(found.refusals), tuple(notes), policy.cpu)


def _checkpoint(seen: Looked, into: Found) -> None:
    tail = seen.tail
    log = next(one for one in seen.debt.parts if one.name == "log")
    broken = [one for one in seen.debt.notes if "is damaged" in one]
    if not log.due and not broken:
        if 0 < tail.commits < WORTH_A_CHECKPOINT:
            text = f"{tail.commits:,} commits are read as fast as a checkpoint"
            into.refusals.append(Refusal("checkpoint", text))
        return
    price = checkpoint_price(len(seen.state.rows), tail.commits, tail.nbytes)
    gain = f"a reader opens one file instead of {tail.commits:,}"
    reason = "; ".join([*broken, *([log.reason] if log.due else [])])
    if broken:
        gain += "; damaged checkpoints are put aside (Checkpoint(repair=True))"
    into.actions.append(Action("checkpoint", reason, gain, price))


def _vacuum(
    root: Place, state: TableState, policy: Policy, now_s: float, into: Found
) -> Sequence[str]:
    gone = expired(state, policy, now_s)
    now_ms = int(now_s * 1000)
    held = Leases(root).held(state.metadata.id, now_ms)
    notes = held.note(now_ms)
    if held.oldest is not None:
        removed = gone.column("gone_version").fill_null(0).to_numpy()
        gone = gone.filter(removed <= held.oldest)
    if not len(gone):
        into.refusals.append(Refusal("vacuum", "no removed file is beyond the retention"))
        return [notes] if notes else []
    nbytes = int(gone.column("size").to_numpy().sum())
    reason = f"{len(gone):,} removed files are beyond the retention"
    gain = f"up to {nbytes:,} bytes are freed; what an earlier vacuum took is counted until the "
    gain += "checkpoint that forgets it"
    when = parse_cron(policy.vacuum_schedule).next_after(now_ms)
    into.actions.append(
        Action(
            "vacuum",
            reason,
            gain,
            deletion_price(len(gone), nbytes),
            when=None if when is None else when / 1000,
        )
    )
    return [notes] if notes else []


def _clean_log(root: Place, seen: Looked, into: Found, now_s: float) -> None:
    configuration = seen.state.metadata.configuration
    if configuration.get(_CLEAN_UP, "true").lower() != "true":
        into.refusals.append(Refusal("clean_log", f"the table says {_CLEAN_UP} = false"))
        return
    held = needed_from(root, seen.state.metadata.id, int(now_s * 1000))
    version = seen.state.version
    floor = clean_up_floor(
        root,
        keep_from=version if held is None else min(held, version),
        retention_s=log_retention_s(configuration),
        max_log_files=MAX_LOG_FILES,
    )
    sizes = [size for at, size in seen.reading.listing.commits.items() if at < floor]
    if not sizes:
        into.refusals.append(Refusal("clean_log", "no log entry is older than its retention"))
        return
    reason = f"{len(sizes):,} log entries lie below checkpoint {floor} and are past the retention"
    gain = f"{len(sizes):,} files fewer to list; of a bronze table its owner keeps what the redo "
    gain += "of dead letters needs"
    price = deletion_price(len(sizes), sum(sizes))
    into.actions.append(Action("clean_log", reason, gain, price))
