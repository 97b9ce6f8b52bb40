"""``rewind``: reading again what a table has accounted for, from an earlier offset on (I12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from raylake.client.foreign_positions import Ends
from raylake.client.position_orders import Done, PartitionMove, Place, place
from raylake.client.quiet_tables import refuse_living_owner
from raylake.client.tables import is_table
from raylake.clock import Clock
from raylake.config import Loaded, dead_letter_path
from raylake.delta.dead_letters import DeadLetterTable
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.log_reader import LogReader
from raylake.delta.rewinding import Rewind, Survey, survey
from raylake.errors import ConfigError, OffsetsLost
from raylake.ingest.plan import new_run_id
from raylake.ingest.unit import SourcePartition
from raylake.storage import place as storage


@dataclass(frozen=True, slots=True)
class ToEarliest:
    """Every partition to the first offset that Kafka still has."""


@dataclass(frozen=True, slots=True)
class ToMoment:
    """Every partition to its first record at or after a moment, by the broker's timestamps."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class ToOffsets:
    """Some partitions to given offsets."""

    ends: Ends


Target = ToEarliest | ToMoment | ToOffsets


def rewind(
    loaded: Loaded, table: str, target: Target, clock: Clock, *, replace: bool, dry_run: bool
) -> Done:
    """Let a table read offsets again, and take away what it made of them, in one commit.

    Dead letters of these offsets leave the dead-letter table right before; when it ends between
    the two, `verify` names the difference and the same order once more completes it.

    Args:
        loaded: The pipeline file.
        table: ``bronze.orders``.
        target: Where it is to read from.
        clock: Time.
        replace: Take away the rows and dead letters of these offsets; without it there must be
            none.
        dry_run: Only say what would be done.

    Raises:
        ConfigError: The table has no such partition, or it is not admitted.
        OffsetsLost: Kafka does not have these offsets any more.
        Refused: See :func:`raylake.delta.rewinding.survey`.
        RayLakeError: Why it was not done.
    """
    with place(loaded, table, clock) as at:
        ends = _ends(at, target)
        letters = dead_letter_path(loaded.config)
        there = is_table(letters)
        order = Rewind(at.pipeline, ends, replace, letters if there else None, table)
        if not ends:
            return Done("rewind", table, (), dry_run)
        found = survey(order, at.states, LogReader(str(at.root)))
        version = None
        if not dry_run:
            withdrawal = (lambda: _withdraw(at, order)) if found.letter_cuts else (lambda: None)
            version = at.carry_out(order, before=withdrawal)
        moves = tuple(
            PartitionMove(source, one.was, one.now) for source, one in found.partitions.items()
        )
        return Done("rewind", table, moves, dry_run, version, _note(found))


def _note(found: Survey) -> Mapping[str, object]:
    taken = {str(source): asdict(one.counts) for source, one in found.partitions.items()}
    files = {"removed": len(found.cuts), "rewritten": sum(not c.doomed.all() for c in found.cuts)}
    return {"taken_back": taken, "files": files}


def _ends(at: Place, target: Target) -> dict[SourcePartition, int]:
    """The offsets that are moved to; partitions that stand before theirs are left out."""
    current = sorted(s for s in at.plan.sources if s in at.states)
    if not current:
        raise ConfigError(f"{at.plan.name} has no position yet", hint="`raylake run` gives it one")
    match target:
        case ToOffsets(ends=ends):
            wanted = at.named(ends)
            _refuse_gone(wanted, at)
            return wanted
        case ToMoment(timestamp_ms=moment):
            found = at.cluster.at_timestamp(current, moment)
        case ToEarliest():
            found = at.cluster.earliest(current)
    return {s: end for s, end in found.items() if end < at.states[s].next}


def _refuse_gone(wanted: Mapping[SourcePartition, int], at: Place) -> None:
    first = at.cluster.earliest(list(wanted))
    for source, offset in sorted(wanted.items()):
        if offset < first[source]:
            raise OffsetsLost(
                f"{source}: cannot read again from {offset}, its log begins at {first[source]}: "
                f"{first[source] - offset} offsets are gone",
                hint=f"go back to {first[source]}, or `--to earliest`; nothing was changed",
                topic=source.topic,
                partition=source.partition,
                asked=offset,
                log_start=first[source],
            )


def _withdraw(at: Place, order: Rewind) -> None:
    if order.letters is None:
        return
    config = at.loaded.config
    refuse_living_owner(storage.place(order.letters))
    table = DeadLetterTable.attach(
        order.letters,
        OwnerIdentity.of_this_process(at.pipeline, new_run_id()),
        clock=at.clock,
        durability=config.ingest.durability,
        claim=Claim(config.ingest.takeover_after_s),
    )
    try:
        reader = LogReader(str(at.root))
        table.withdraw(lambda: survey(order, at.states, reader).letter_cuts)
    finally:
        table.release()
