"""How far a table had read at one of its versions: where a rewind to that version goes (ADR 45)."""

from __future__ import annotations

from dataclasses import dataclass

from raylake.delta.ledger import states_of
from raylake.delta.log_reader import LogReader
from raylake.delta.moves import States
from raylake.errors import Refused
from raylake.ingest.unit import SourcePartition


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a table's partitions stand, and where they stood.

    Attributes:
        pipelines: The pipelines that feed it.
        now: Every admitted partition.
        back: The next offset to read of those that stood elsewhere at the version. One that was not
            admitted yet goes back to its first offset.
    """

    pipelines: tuple[str, ...]
    now: States
    back: dict[SourcePartition, int]


def positions_at(path: str, version: int) -> Positions:
    """Where partitions stood at a version of a table.

    Args:
        path: The table.
        version: A version that its log leads to.

    Raises:
        Refused: It has read less than it had at that version: it was taken back in between.
        LogDamaged: The log does not lead to that version.
    """
    reader = LogReader(path)
    now = states_of(reader.snapshot().txns)
    then = states_of(reader.snapshot(version).txns)
    back = {}
    for (pipeline, source), state in now.items():
        was = then.get((pipeline, source))
        end = state.origin if was is None else was.next
        if end > state.next:
            raise Refused(
                f"{path}: at version {version} {source} stood at {end}, and it stands at "
                f"{state.next} now: the table was taken back since",
                hint="a run reads what lies between again; nothing was changed",
                topic=source.topic,
                partition=source.partition,
                next=state.next,
                asked=end,
            )
        if end < state.next:
            back[source] = end
    pipelines = tuple(sorted({pipeline for pipeline, _ in now}))
    return Positions(pipelines, {source: state for (_, source), state in now.items()}, back)
