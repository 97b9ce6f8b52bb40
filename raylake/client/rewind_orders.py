"""``rewind``: reading again what a table has accounted for, from an earlier offset on (I12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from raylake.client.foreign_positions import Ends
from raylake.client.position_orders import Carried, Done, PartitionMove, Place, place
from raylake.client.quiet_tables import refuse_living_owner
from raylake.client.settled_letters import settle_letters
from raylake.clock import Clock
from raylake.config import Loaded, dead_letter_path
from raylake.delta.log_reader import LogReader
from raylake.delta.positions_then import positions_at
from raylake.delta.prepared import write_kept
from raylake.delta.rewinding import Rewind, Survey, survey
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError, OffsetsLost, RayLakeError, Refused, TopicRecreated
from raylake.ingest.unit import SourcePartition
from raylake.storage import place as storage
from raylake.tables.versions import Versions


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


@dataclass(frozen=True, slots=True)
class ToVersion:
    """Every partition to where it stood at a version of the table."""

    version: int


Target = ToEarliest | ToMoment | ToOffsets | ToVersion


@dataclass(frozen=True, slots=True)
class HowFar:
    """What a rewind may do.

    Attributes:
        replace: Take away the rows and dead letters of these offsets; without it there must be
            none.
        dry_run: Only say what would be done.
        compacted_too: Also where Kafka may have compacted away what would have to be read again.
    """

    replace: bool = False
    dry_run: bool = False
    compacted_too: bool = False


def rewind(loaded: Loaded, table: str, target: Target, clock: Clock, how: HowFar) -> Done:
    """Let a table read offsets again, and take away what it made of them, in one commit.

    That commit names the dead letters of these offsets; they leave the dead-letter table right
    after it, or, where this ends in between, as the first thing of the next run or rewind (I5).

    Args:
        loaded: The pipeline file.
        table: ``bronze.orders``.
        target: Where it is to read from.
        clock: Time.
        how: What it may do.

    Raises:
        ConfigError: The table has no such partition, or it is not admitted.
        OffsetsLost: Kafka does not have these offsets any more.
        Refused: See :func:`raylake.delta.rewinding.survey`; or what leaves may not come back.
        RayLakeError: Why it was not done; the position was not changed.
    """
    with place(loaded, table, clock) as at:
        ends = _ends(at, target)
        letters = dead_letter_path(loaded.config)
        there = is_table(letters)
        order = Rewind(at.pipeline, ends, how.replace, letters if there else None, table)
        if not ends:
            return Done("rewind", table, (), how.dry_run)
        if not how.dry_run:
            # What an earlier run or rewind left undone; mostly nothing.
            settle_letters(at.loaded.config, at.root, order.letters, at.clock)
        found = survey(order, at.states, LogReader(str(at.root)))
        _refuse_lost(at, found, how)
        carried = Carried() if how.dry_run else _carry_out(at, order, found, how)
        moves = tuple(
            PartitionMove(source, one.was, one.now) for source, one in found.partitions.items()
        )
        note = _note(found)
        return Done("rewind", table, moves, how.dry_run, carried.version, note, carried.left)


def _refuse_lost(at: Place, found: Survey, how: HowFar) -> None:
    """Refuse to take away what Kafka does not have any more, or may not have."""
    topics = at.cluster.topics(sorted({s.topic for s in found.partitions}))
    for source in sorted(found.partitions):
        if topics[source.topic].topic_id != source.topic_id:
            raise TopicRecreated(
                f"topic {source.topic!r} was created again while the rewind was being prepared; "
                "nothing was changed",
                hint="what this table holds of it cannot be read again",
                topic=source.topic,
            )
    _refuse_gone({s: one.now.next for s, one in found.partitions.items()}, at)
    if not how.compacted_too:
        policies = at.cluster.cleanup_policies(taken_topics(found))
        refuse_compacted(at.plan.name, policies, found)


def _carry_out(at: Place, order: Rewind, found: Survey, how: HowFar) -> Carried:
    """Write what stays while nobody is held up, commit, and let the dead letters follow."""
    if order.letters is not None and found.letters_found:
        refuse_living_owner(storage.place(order.letters))
    prepared = write_kept(order, found, at.root, at.loaded.config.ingest.durability)
    # That may have taken hours, and Kafka deletes by time.
    _refuse_lost(at, found, how)
    carried = at.carry_out(prepared)
    try:
        settle_letters(at.loaded.config, at.root, order.letters, at.clock)
    except (RayLakeError, OSError) as error:
        told = f"the dead letters leave {order.letters} with the next run or rewind: {error}"
        return Carried(carried.version, (*carried.left, told))
    return carried


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
        case ToVersion(version=version):
            return _ends_at(at, version)
        case ToMoment(timestamp_ms=moment):
            found = at.cluster.at_timestamp(current, moment)
        case ToEarliest():
            found = at.cluster.earliest(current)
    return {s: end for s, end in found.items() if end < at.states[s].next}


def _ends_at(at: Place, version: int) -> dict[SourcePartition, int]:
    """Where partitions stood at a version; all of them go, or none."""
    known = Versions(at.root).known(version)
    wanted = positions_at(str(at.root), known).back
    others = sorted(set(wanted) - set(at.plan.sources))
    if others:
        raise Refused(
            f"{at.plan.name}: since version {version} it has read {others[0]}, which this file "
            "does not read, or not that topic of the name: it cannot be read again",
            hint="name the partitions that are to go back: --to 'TOPIC[P]=OFFSET'; nothing was "
            "changed",
            topic=others[0].topic,
            partition=others[0].partition,
        )
    _refuse_gone(wanted, at)
    return wanted


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


def taken_topics(found: Survey) -> list[str]:
    """The topics of which a rewind takes rows or dead letters back."""
    partitions = found.partitions.items()
    return sorted({s.topic for s, one in partitions if one.counts.rows + one.counts.dead})


def refuse_compacted(table: str, policies: Mapping[str, str | None], found: Survey) -> None:
    """What Kafka has compacted away cannot be read again: what is taken back of it is gone.

    Args:
        table: The table's name.
        policies: ``cleanup.policy`` by topic; None where it is not told.
        found: What would be taken back.

    Raises:
        Refused: A topic is compacted, or that cannot be told.
    """
    compacted = sorted(t for t, policy in policies.items() if "compact" in (policy or ""))
    untold = sorted(t for t, policy in policies.items() if policy is None)
    if not compacted and not untold:
        return
    names = ", ".join(map(repr, compacted or untold))
    why = f"topic {names} is compacted"
    way_out = "choose a later offset, or say --replace-compacted"
    if not compacted:
        why = f"this user is not told whether topic {names} is compacted (DescribeConfigs)"
        way_out = "grant DescribeConfigs on it, or say --replace-compacted if you know it is not"
    raise Refused(
        f"{table}: {why}: up to {found.rows} rows and {found.dead} dead letters would be taken "
        "away, and those that a newer record of their key has replaced in Kafka would be lost for "
        "good",
        hint=f"{way_out}; nothing was changed",
        compacted=compacted,
        untold=untold,
        rows=found.rows,
        dead=found.dead,
    )
