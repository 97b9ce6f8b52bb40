"""The actor that owns a pipeline's dead-letter table (I5)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import ray

from actors.begin import begin
from actors.idle import IdleExit
from actors.metrics import RayMetrics
from actors.process import ActorProcess
from raylake.clock import SystemClock
from raylake.delta.dead_letters import DeadLetterTable
from raylake.delta.identity import OwnerIdentity
from raylake.delta.pending import Withdrawn
from raylake.errors import OutcomeUnknown, Retryable
from raylake.ingest.build_owner import claim
from raylake.ingest.letter_feeds import LetterFeeds, build_letter_feeds
from raylake.ingest.plan import RunPlan
from raylake.ingest.policies import retry_policy
from raylake.ingest.unit import DataFile

FORWARDING_S = 5.0
"""How long a run that ends waits for further targets of its last dead letters."""
WITHDRAWAL_ANSWER_S = 10.0
"""A withdrawal reads the coordinates of all letters: an owner is not kept waiting for its end."""


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class DeadLetterQueue:
    """Adds the files that data commits named; each addition is idempotent by data version."""

    def __init__(self, run: RunPlan) -> None:
        begin(run, "dead_letters")
        self._run = run
        self._one_at_a_time = threading.Lock()
        self._table: DeadLetterTable | None = None
        self._feeds: LetterFeeds | None = None
        self._withdrawals: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._idle = IdleExit(self.leave)

    async def ping(self, after_s: float) -> ActorProcess:
        """Show ``after_s`` from now that it lives, and where."""
        self._idle.touch()
        await asyncio.sleep(after_s)
        return ActorProcess.of_this()

    async def attach(self) -> None:
        """Take the table, and begin to forward what waits for further targets; idempotent."""
        self._idle.touch()
        await asyncio.to_thread(self._attached)

    async def add(self, table_id: str, version: int, files: Sequence[DataFile]) -> None:
        """Add the files that a data commit named; repeating it changes nothing."""
        self._idle.touch()
        await asyncio.to_thread(self._add, table_id, version, files)

    async def withdraw(self, table_id: str, version: int, withdrawal: Withdrawn) -> None:
        """Take out what a rewind took back, or replace what a replay looked at; idempotent.

        Raises:
            Retryable: It is under way; the same call again tells when it is done.
        """
        self._idle.touch()
        key = (table_id, version)
        if key not in self._withdrawals:
            work = asyncio.to_thread(self._withdraw, table_id, version, withdrawal)
            self._withdrawals[key] = asyncio.create_task(work)
        task = self._withdrawals[key]
        await asyncio.wait({task}, timeout=WITHDRAWAL_ANSWER_S)
        if not task.done():
            raise Retryable(
                f"{self._run.dead_letters}: the dead letters that a rewind took back are leaving",
                hint="nothing is lost; the more letters there are, the longer it takes",
            )
        self._withdrawals.pop(key, None)
        task.result()

    async def leave(self) -> None:
        """Release the table."""
        if self._table is not None:
            await asyncio.to_thread(self._release, self._table)

    def _release(self, table: DeadLetterTable) -> None:
        with self._one_at_a_time:
            table.release()
        if self._feeds is not None:
            self._feeds.close(FORWARDING_S)

    def _attached(self) -> DeadLetterTable:
        with self._one_at_a_time:
            if self._table is None:
                config = self._run.config
                table = DeadLetterTable.attach(
                    self._run.dead_letters,
                    OwnerIdentity.of_this_process(config.pipeline, self._run.run_id),
                    clock=SystemClock(),
                    durability=config.ingest.durability,
                    claim=claim(self._run),
                    conflicts=retry_policy(config, "conflicts"),
                    checkpoint_interval_commits=config.ingest.checkpoint_interval_commits,
                )
                feeds = build_letter_feeds(self._run, SystemClock(), RayMetrics())
                table.keep_from = lambda: feeds.keep_from(table.version)
                self._table, self._feeds = table, feeds
            return self._table

    def _add(self, table_id: str, version: int, files: Sequence[DataFile]) -> None:
        table = self._attached()
        self._write(lambda: table.add(table_id, version, files))

    def _withdraw(self, table_id: str, version: int, withdrawal: Withdrawn) -> None:
        table = self._attached()
        self._write(lambda: table.withdraw(table_id, version, withdrawal))

    def _write(self, write: Callable[[], object]) -> None:
        with self._one_at_a_time:
            try:
                write()
            except OSError as error:
                raise OutcomeUnknown(f"{self._run.dead_letters}: {error}") from error
        if self._feeds is not None:
            self._feeds.wake()
