"""The actor that owns a table: the loop of ``raylake.ingest.owner_loop`` behind Ray calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import ray

from actors.begin import begin
from actors.calls import RayDeadLetters
from actors.idle import IdleExit
from actors.process import ActorProcess
from actors.turns import OwnerTurns
from raylake.clock import SystemClock
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import RewriteTurns
from raylake.delta.replaying import Replay
from raylake.delta.rewritten import Rewritten
from raylake.ingest.build_owner import attach_owner, build_owner_loop
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.ports import Answer, TableView
from raylake.ingest.setups import OwnerSetup
from raylake.ingest.switches import Switches
from raylake.ingest.unit import PartitionState, SourcePartition, Unit
from raylake.telemetry import tracing

T = TypeVar("T")

LEAVE_S = 30.0


@dataclass(frozen=True, slots=True)
class OwnerReport:
    """What an owner tells the supervisor.

    Attributes:
        process: Its process.
        epoch: Its epoch.
        state: The loop's state.
        ends: Where the table stands.
    """

    process: ActorProcess
    epoch: int
    state: OwnerState
    ends: Mapping[SourcePartition, PartitionState]

    @property
    def pid(self) -> int:
        """The process's number, for the status document."""
        return self.process.pid


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class TableOwner:
    """Owns one table; detached, named by the table's id, never restarted by Ray (I11)."""

    def __init__(self, setup: OwnerSetup) -> None:
        begin(setup.run, f"owner-{setup.table.name}")
        self._setup = setup
        self._clock = SystemClock()
        self._attached = asyncio.Event()
        self._starting = asyncio.Lock()
        self._idle = IdleExit(self._abandon)

    async def start(self, switches: Switches) -> TableView:
        """Attach the table, take its epoch and begin; raises what attaching raises."""
        self._idle.touch()
        async with self._starting:
            if not self._attached.is_set():
                await asyncio.to_thread(self._start, switches)
                self._attached.set()
        await self.switch(switches)
        return await self.view()

    def _start(self, switches: Switches) -> None:
        self._table = attach_owner(self._setup, self._clock)
        dead_letters = RayDeadLetters(self._setup.run.config.pipeline)
        self._loop = build_owner_loop(self._setup, self._table, dead_letters, self._clock)
        loop, table = self._loop, self._table
        rewrites = table.rewrites(lambda o: loop.count_files(len(o.added) - len(o.removed)))
        self._turns = OwnerTurns(
            RewriteTurns(rewrites), self._between_commits, table.path, busy=self._idle.touch
        )
        switches.apply_to_stores(self._setup.table.name, self._loop.stores)
        self._thread = threading.Thread(target=self._loop.run, name="owner", daemon=True)
        self._thread.start()

    async def view(self) -> TableView:
        """The table's id and schema."""
        return await self._between_commits(self._view)

    async def take_turn(self, request: str, worker: Any) -> Grant:
        """Wait for a turn of rewriting the table; see :meth:`actors.turns.OwnerTurns.take`."""
        await self._attached.wait()
        return await self._turns.take(request, worker)

    async def commit_turn(self, one: Rewritten) -> Verdict:
        """Commit what a turn led to; see :meth:`actors.turns.OwnerTurns.commit`."""
        await self._attached.wait()
        return await self._turns.commit(one)

    async def end_turn(self, request: str) -> Verdict | None:
        """End a turn; see :meth:`actors.turns.OwnerTurns.ended`."""
        await self._attached.wait()
        return await self._turns.ended(request)

    async def turns(self) -> tuple[Grant | None, tuple[str, ...]]:
        """The turn that is open, and who waits."""
        await self._attached.wait()
        return await self._turns.open()

    def _view(self) -> TableView:
        table = self._table
        return TableView(
            table.table_id,
            table.schema,
            table.fingerprint,
            table.watermark_ms,
            self._setup.run.run_id,
        )

    async def ends(
        self, sources: Sequence[SourcePartition]
    ) -> Mapping[SourcePartition, PartitionState]:
        """Where the table stands in those of the partitions that are admitted."""
        return await self._between_commits(lambda: self._table.ends(sources))

    async def admit(
        self, origins: Mapping[SourcePartition, int]
    ) -> Mapping[SourcePartition, PartitionState]:
        """Admit partitions at their first offsets, in a commit of its own (I9)."""

        def admit() -> Mapping[SourcePartition, PartitionState]:
            states = self._table.admit(origins)
            self._loop.watch(states)
            return states

        return await self._between_commits(admit)

    async def admitted(self) -> list[SourcePartition]:
        """Every partition that the table has admitted."""
        return await self._between_commits(lambda: sorted(self._table.states()))

    async def generation(self) -> int:
        """The newest generation that this owner was told; 0 for none."""
        return await self._between_commits(lambda: self._table.generation)

    async def set_generation(self, sources: Sequence[SourcePartition], generation: int) -> None:
        """From now on refuse units of these partitions that carry an older generation (I7)."""
        await self._between_commits(lambda: self._table.set_generation(sources, generation))

    async def evolve(self, additions: pa.Schema) -> TableView:
        """Add columns; those that are there already are no error."""

        def evolve() -> TableView:
            self._table.evolve(additions)
            return self._view()

        return await self._between_commits(evolve)

    async def set_watermark(self, value_ms: int, dry_run: bool) -> int | None:
        """Move the watermark, in a commit of its own; returns what it was."""
        return await self._between_commits(
            lambda: self._loop.set_watermark(value_ms, dry_run=dry_run)
        )

    async def replay(self, order: Replay) -> int:
        """Commit rows that were dead letters; returns the version that has them."""

        def replay() -> int:
            letters, table = self._loop.letters, self._table
            version = letters.after(lambda: table.replay(order), table.pending_dead_letters)
            self._loop.count_files(len(order.files))
            return version

        return await self._between_commits(replay)

    async def switch(self, switches: Switches) -> None:
        """Trip and close breakers by hand."""
        name = self._setup.table.name
        await self._between_commits(lambda: switches.apply_to_stores(name, self._loop.stores))

    async def submit(self, unit: Unit) -> Answer:
        """Take a unit; answered after the commit that decides it."""
        await self._attached.wait()
        return await asyncio.wrap_future(self._loop.submit(unit))

    async def hurry(self, for_s: float) -> None:
        """For so long commit as soon as anything waits."""
        await self._attached.wait()
        self._loop.hurry(for_s)

    async def report(self, after_s: float) -> OwnerReport:
        """The loop's state ``after_s`` from now; never waits for a commit.

        Raises:
            RayLakeError: The owner stopped for good.
        """
        self._idle.touch()
        await self._attached.wait()
        await asyncio.sleep(after_s)
        if self._loop.failure is not None:
            raise self._loop.failure
        state, ends = self._loop.state(), self._table.states()
        return OwnerReport(ActorProcess.of_this(), self._table.epoch, state, ends)

    async def leave(self, timeout_s: float) -> None:
        """Commit what waits, as far as ``timeout_s`` allows, release the table, end the loop."""
        if self._attached.is_set():
            self._loop.close(timeout_s)
            await asyncio.to_thread(self._thread.join)

    async def flush(self) -> None:
        """Send what spans are left, as far as 2 s allow."""
        await asyncio.to_thread(tracing.end)

    async def _abandon(self) -> None:
        await self.leave(LEAVE_S)
        await self.flush()

    async def _between_commits(self, operation: Callable[[], T]) -> T:
        # The name is taken before the table is attached: early callers wait.
        await self._attached.wait()
        return await asyncio.wrap_future(self._loop.call(operation))
