"""What the supervisor and its consumers tell each other; plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raylake.errors import RayLakeError
from raylake.ingest.unit import SourcePartition
from raylake.processes import Usage


@dataclass(frozen=True, slots=True)
class Granted:
    """Partitions given to a consumer.

    Attributes:
        generation: The assignment's generation.
        ends: For each table, where it stands in the partitions that it takes.
        leader_epochs: Leader epoch of each partition's last commit, -1 when unknown.
    """

    generation: int
    ends: Mapping[str, Mapping[SourcePartition, int]]
    leader_epochs: Mapping[SourcePartition, int] = field(default_factory=dict)

    @property
    def sources(self) -> set[SourcePartition]:
        """The partitions."""
        return {source for ends in self.ends.values() for source in ends}


@dataclass(slots=True)
class ConsumerReport:
    """What a consumer tells the supervisor; plain data.

    Attributes:
        consumer: Its name.
        state: ``running``, ``paused`` (byte limit), ``waiting`` (a breaker is open), ``drained``.
        sources: The partitions that it holds.
        positions: The next offset to fetch of each.
        stopped: Partitions that are stopped, with the error.
        released: Partitions given up since the last report.
        tables: Counters by table.
        budget: The byte budget.
        breakers: The breakers that are not closed.
        error: The last transient error; empty when all is well.
        retries: What was tried again of what no table has for itself, by dependency.
        left: Offsets that a drain left although they were read, by partition.
        failure: A terminal error: the consumer is of no more use.
        pid: Its process; 0 when unknown.
        host: The host of its process.
        pid_created_s: When the process started, seconds since the epoch.
        usage: What its process takes; None when unknown.
    """

    consumer: str
    state: str = "running"
    sources: tuple[SourcePartition, ...] = ()
    positions: dict[SourcePartition, int] = field(default_factory=dict)
    stopped: dict[SourcePartition, RayLakeError] = field(default_factory=dict)
    released: tuple[SourcePartition, ...] = ()
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    breakers: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""
    retries: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: dict[SourcePartition, int] = field(default_factory=dict)
    failure: RayLakeError | None = None
    pid: int = 0
    host: str = ""
    pid_created_s: float = 0.0
    usage: Usage | None = None
