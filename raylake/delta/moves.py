"""Deliberate moves of a table's positions as pure functions (I12): what one changes, or why not.

Nothing here does I/O: a dry run asks these functions with what the log says, the owner with what it
holds, and both get the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raylake.delta.ledger import admitted, advance
from raylake.errors import ConfigError, Refused
from raylake.ingest.unit import Counts, OffsetRange, PartitionState, SourcePartition

States = Mapping[SourcePartition, PartitionState]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Admit partitions at given offsets, as somebody else has read up to there.

    Attributes:
        pipeline: For which pipeline.
        origins: The next offset to read of each partition.
        note: Whose position it was; plain data for the commit.
    """

    pipeline: str
    origins: Mapping[SourcePartition, int]
    note: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave offsets out, from where the table stands on; they are counted as dropped.

    Attributes:
        pipeline: Of which pipeline.
        ends: The next offset to read of each partition.
        leader_epochs: The partitions' leader epochs now: what lies at the new ends may be of a
            newer epoch than the last commit's, and the next fetch compares them (I6).
        reason: Why, for the commit.
    """

    pipeline: str
    ends: Mapping[SourcePartition, int]
    leader_epochs: Mapping[SourcePartition, int] = field(default_factory=dict)
    reason: str = ""


def adopted(order: Adopt, states: States, where: str) -> dict[SourcePartition, PartitionState]:
    """The states of the partitions that an order admits; without those that stand there already.

    Args:
        order: The order.
        states: Every admitted partition of the table.
        where: The table, for messages.

    Raises:
        Refused: A partition is admitted at another offset; it moves only by rewind or skip.
    """
    fresh = {}
    for source, offset in sorted(order.origins.items()):
        known = states.get(source)
        if known is None:
            fresh[source] = admitted(offset)
        elif known.next != offset:
            raise Refused(
                f"{where}: {source} is admitted already and stands at {known.next}; it cannot be "
                f"adopted at {offset}",
                hint="`raylake rewind` moves it back and `raylake skip` forward; or adopt into a "
                "table of its own",
                topic=source.topic,
                partition=source.partition,
                next=known.next,
                asked=offset,
            )
    return fresh


def skipped(
    order: Skip, states: States, where: str
) -> dict[SourcePartition, tuple[OffsetRange, PartitionState]]:
    """The range that is left out of each partition, and its state afterwards.

    Raises:
        ConfigError: A partition is not admitted.
        Refused: An offset before the new end is committed already, or none is to be left out.
    """
    found = {}
    for source, end in sorted(order.ends.items()):
        state = state_of(source, states, where)
        if end <= state.next:
            raise Refused(
                f"{where}: {source} stands at {state.next}: nothing up to {end} can be skipped, "
                f"the offsets before {state.next} are committed",
                hint=f"give an offset above {state.next}; `raylake rewind` moves back",
                topic=source.topic,
                partition=source.partition,
                next=state.next,
                asked=end,
            )
        counts = Counts(dropped=end - state.next)
        epoch = order.leader_epochs.get(source, -1)
        one = OffsetRange(source, state.next, end, counts, epoch)
        found[source] = (one, advance(state, one))
    return found


def state_of(source: SourcePartition, states: States, where: str) -> PartitionState:
    """The state of a partition.

    Raises:
        ConfigError: It is not admitted.
    """
    state = states.get(source)
    if state is None:
        raise ConfigError(
            f"{where}: {source} is not admitted: it has no position that could be moved",
            hint="`start:` in the pipeline file, or `raylake adopt`, says where it begins",
            topic=source.topic,
            partition=source.partition,
        )
    return state
