"""The ports of a supervisor: the processes of a run, and what it asks of Kafka."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from raylake.clock import Deadline
from raylake.delta.replaying import Replay
from raylake.errors import RayLakeError, UnknownTopic
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.plan import TablePlan
from raylake.ingest.ports import TableView
from raylake.ingest.reports import ConsumerReport, Granted
from raylake.ingest.retry import RetryCounters
from raylake.ingest.setups import ConsumerSetup, OwnerSetup
from raylake.ingest.switches import Switches
from raylake.ingest.unit import PartitionState, SourcePartition


class OwnerControl(Protocol):
    """What the supervisor asks of a table's owner; each call may raise ``OwnerLost``."""

    def ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        """Where the table stands in those of the partitions that are admitted."""
        ...

    def admit(
        self, origins: Mapping[SourcePartition, int]
    ) -> Mapping[SourcePartition, PartitionState]:
        """Admit partitions at their first offsets."""
        ...

    def admitted(self) -> list[SourcePartition]:
        """Every partition that the table has admitted, of each incarnation of its topics."""
        ...

    def generation(self) -> int:
        """The newest generation that the owner was told."""
        ...

    def set_generation(self, sources: list[SourcePartition], generation: int) -> None:
        """Refuse units of these partitions that carry an older generation."""
        ...

    def state(self) -> OwnerState:
        """What it does; never waits for a commit."""
        ...

    def hurry(self, for_s: float = math.inf) -> None:
        """For so long commit as soon as anything waits."""
        ...

    def evolve(self, additions: pa.Schema) -> TableView:
        """Add columns; those that are there already are no error."""
        ...

    def replay(self, order: Replay) -> int:
        """Commit rows that were dead letters; returns the version that has them."""
        ...

    def set_watermark(self, value_ms: int, *, dry_run: bool) -> int | None:
        """Move the watermark (DESIGN §8), ms since the epoch; returns what it was."""
        ...


class Fleet(Protocol):
    """The processes of a run, wherever they live."""

    def prepare(self, consumers: Sequence[str]) -> None:
        """Let processes start that will be asked for soon; returns at once.

        Args:
            consumers: Names that :meth:`start_consumer` will be called with.
        """
        ...

    def start_queue(self) -> None:
        """Start the dead-letter queue, or find it."""
        ...

    def start_owner(self, setup: OwnerSetup) -> TableView:
        """Start a table's owner, or find it; raises what attaching raises."""
        ...

    def owner(self, table: str) -> OwnerControl:
        """The owner of a table that was started."""
        ...

    def start_consumer(self, setup: ConsumerSetup, table_ids: Mapping[str, str]) -> None:
        """Start a consumer; returns at once."""
        ...

    def discard(self, consumer: str) -> None:
        """End a consumer that is lost or failed; what it holds is gone."""
        ...

    def add_table(self, consumer: str, plan: TablePlan, table_id: str) -> None:
        """Tell a consumer about a table that appeared later; returns at once."""
        ...

    def grant(self, consumer: str, granted: Granted) -> None:
        """Give partitions to a consumer; returns at once."""
        ...

    def revoke(self, consumer: str, sources: set[SourcePartition]) -> None:
        """Take partitions away; returns at once."""
        ...

    def drain(self, consumer: str, *, on: bool) -> None:
        """Drain a consumer, or take that back; returns at once."""
        ...

    def switch(self, switches: Switches) -> None:
        """Trip and close breakers by hand, in processes that start later too; returns at once."""
        ...

    def news(self) -> News:
        """What arrived since the last call; never waits."""
        ...

    def leave(self, deadline: Deadline) -> Left:
        """Release tables and end every process of this run."""
        ...


@dataclass(slots=True)
class News:
    """What arrived from the fleet.

    Attributes:
        consumers: The newest report of each consumer that answered.
        owners: The newest report of each owner that answered, by table.
        lost_consumers: Consumers whose process is gone.
        lost_owners: Tables whose owner is gone.
        left_owners: Tables that their owner released, because its node is to go.
        queue_lost: Whether the dead-letter queue is gone.
        waiting: Consumers that have not started, with the seconds since they were asked for.
        going: Consumers whose node is to go, while it is still there.
    """

    consumers: dict[str, ConsumerReport] = field(default_factory=dict)
    owners: dict[str, Any] = field(default_factory=dict)
    lost_consumers: set[str] = field(default_factory=set)
    lost_owners: set[str] = field(default_factory=set)
    left_owners: set[str] = field(default_factory=set)
    queue_lost: bool = False
    waiting: dict[str, float] = field(default_factory=dict)
    going: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Seen:
    """The tables as Kafka has them at one moment.

    Attributes:
        plans: The tables with the partitions that exist.
        missing: Listed topics that do not exist.
    """

    plans: list[TablePlan]
    missing: Mapping[str, UnknownTopic]


@dataclass(slots=True)
class Left:
    """What was heard while the processes of a run were ended.

    Attributes:
        owners: The last reports of the tables' owners, by table.
        error: Why a table was not this run's to release: another one took it, or it was damaged.
    """

    owners: dict[str, Any] = field(default_factory=dict)
    error: RayLakeError | None = None


class Discovery(Protocol):
    """What the supervisor asks about Kafka; see :mod:`raylake.ingest.discovery`."""

    @property
    def retries(self) -> RetryCounters:
        """Counts questions that were asked again."""
        ...

    def tables(self) -> list[TablePlan]:
        """The tables with the partitions that exist now; raises when a listed topic is missing."""
        ...

    def look(self) -> Seen:
        """The tables with the partitions that exist now, and which listed topics are missing."""
        ...

    def setup(self, table: TablePlan) -> OwnerSetup:
        """How the table is created when it is not there (infers the schema when none is given)."""
        ...

    def origins(
        self,
        table: TablePlan,
        missing: list[SourcePartition],
        admitted: list[SourcePartition],
    ) -> Mapping[SourcePartition, int]:
        """The first offset of partitions that the table has not admitted (I9)."""
        ...

    def stable_ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The last stable offsets now."""
        ...

    def high_ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, int]:
        """The high watermarks now; beyond the stable end while a transaction is open."""
        ...

    def publish(self, offsets: Mapping[SourcePartition, int]) -> None:
        """Show committed offsets to lag tools; nothing reads them back (I2), and it never fails."""
        ...
