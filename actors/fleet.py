"""The processes of a run as Ray actors (the ``Fleet`` of the supervisor's loop)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from actors.calls import SILENT_ENV, RayOwner, detached, owner_name, result
from actors.letter_queue import LetterQueue
from actors.nodes import NodesToLeave
from actors.owner_calls import OwnerCalls
from actors.partition_consumer import PartitionConsumer
from actors.process import ActorProcess
from actors.table_owner import TableOwner
from raylake.clock import Deadline, SystemClock
from raylake.errors import Fenced, LogDamaged, RayLakeError
from raylake.ingest.build_owner import prepare_table
from raylake.ingest.fleet import Left, News
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.ports import OwnerLost, TableView
from raylake.ingest.reports import Granted
from raylake.ingest.setups import ConsumerSetup, OwnerSetup
from raylake.ingest.switches import Switches
from raylake.ingest.unit import SourcePartition
from raylake.processes import Usage
from raylake.telemetry.tracing import FLUSH_S

log = logging.getLogger("raylake.fleet")

SILENT_S = 30.0
"""A process that has not answered for this long is written off."""
ASK_AGAIN_S = 0.5
"""How long a process keeps the next question: an answer costs it and us 1.6 ms of CPU.

The question waits there, not here: one on its way fails at once when the process is lost.
"""
ASK_DRAINING_AGAIN_S = 0.1
START_TIMEOUT_S = 60.0
CLOSE_S = 5.0
QUEUE = ("queue", "queue")


class _Asked:
    """A question on its way, since when, and for how long at most where it is the first."""

    def __init__(self, ref: Any, patience_s: float = 0.0) -> None:
        self.ref = ref
        self.since = time.monotonic()
        self.patience_s = patience_s


class RayFleet:
    """Starts, asks and ends the actors of one run."""

    def __init__(self, run: RunPlan) -> None:
        self._run = run
        self._consumers: dict[str, Any] = {}
        self._numbers: dict[str, Iterator[int]] = {}
        self._prepared: dict[str, Any] = {}
        self._starting: dict[str, _Asked] = {}
        self._owners: dict[str, OwnerCalls] = {}
        self._queue = LetterQueue(run, partial(self._end, QUEUE))
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._ask_again_s = ASK_AGAIN_S
        self._silent_s = float(os.environ.get(SILENT_ENV, SILENT_S))
        self._processes: dict[tuple[str, str], ActorProcess] = {}
        self._to_leave = NodesToLeave()
        self._switches = Switches.of(run.earlier.held)
        self._releasing: set[str] = set()

    def usage(self) -> dict[tuple[str, str], Usage]:
        """What owners and dead-letter queue took when they answered last, by kind and name."""
        kinds = {"owner": "owner", "queue": "dead_letters"}
        return {
            (kinds[kind], f"owner-{name}" if kind == "owner" else "dead_letters"): process.usage
            for (kind, name), process in self._processes.items()
            if kind in kinds and process.usage is not None
        }

    def prepare(self, consumers: Sequence[str]) -> None:
        """Let processes of these consumers start; returns at once.

        As many as half the cluster's CPUs: more would only keep the owners waiting.
        """
        self._queue.prepare()
        at_once = max(1, int(ray.cluster_resources().get("CPU", 0)) // 2)
        for name in consumers[:at_once]:
            # The name may still be that of a consumer of a supervisor that was killed.
            with contextlib.suppress(ValueError):
                self._prepared[name] = self._consumer(name)

    def start_queue(self) -> None:
        """Start the dead-letter queue, or find it; returns at once."""
        self._queue.start()

    def start_owner(self, setup: OwnerSetup) -> TableView:
        """Start a table's owner; raises what attaching raises, after ending the actor."""
        table_id = prepare_table(setup, SystemClock())
        name = setup.table.name
        actor = detached(TableOwner, owner_name(table_id), setup)
        try:
            view: TableView = result(actor.start.remote(self._switches), START_TIMEOUT_S)
            self._queue.begin_forwarding()
        except RayLakeError:
            ray.kill(actor)
            raise
        self._owners[name] = OwnerCalls(RayOwner(table_id))
        self._asked.pop(("owner", name), None)
        return view

    def owner(self, table: str) -> OwnerCalls:
        """The owner of a table that was started."""
        return self._owners[table]

    def start_consumer(self, setup: ConsumerSetup, table_ids: Mapping[str, str]) -> None:
        """Start a consumer; returns at once."""
        actor = self._prepared.pop(setup.name, None) or self._consumer(setup.name)
        setup = replace(setup, switches=self._switches)
        self._consumers[setup.name] = actor
        self._numbers[setup.name] = itertools.count()
        self._starting[setup.name] = _Asked(actor.start.remote(setup, dict(table_ids)))

    def _consumer(self, name: str) -> Any:
        actor_class: Any = PartitionConsumer
        options = actor_class.options(
            name=f"raylake/{self._run.config.pipeline}/{name}", num_cpus=1
        )
        return options.remote(self._run, name)

    def discard(self, consumer: str) -> None:
        """End a consumer that is of no more use."""
        actor = self._consumers.pop(consumer, None)
        self._numbers.pop(consumer, None)
        self._starting.pop(consumer, None)
        self._end(("consumer", consumer), actor)

    def add_table(self, consumer: str, plan: TablePlan, table_id: str) -> None:
        """Tell a consumer about a table that appeared later; returns at once."""
        self._command(consumer, "add_table", plan, table_id)

    def grant(self, consumer: str, granted: Granted) -> None:
        """Give partitions to a consumer; returns at once."""
        self._command(consumer, "grant", granted)

    def revoke(self, consumer: str, sources: set[SourcePartition]) -> None:
        """Take partitions away; returns at once."""
        self._releasing.add(consumer)
        self._command(consumer, "revoke", sources)

    def drain(self, consumer: str, *, on: bool) -> None:
        """Drain a consumer, or take that back; returns at once."""
        self._ask_again_s = ASK_DRAINING_AGAIN_S if on else ASK_AGAIN_S
        self._command(consumer, "drain" if on else "resume")

    def switch(self, switches: Switches) -> None:
        """Trip and close breakers by hand, in processes that start later too; returns at once."""
        self._switches = Switches(switches.held)
        for consumer in self._consumers:
            self._command(consumer, "switch", switches)
        for calls in self._owners.values():
            if calls.known() is not None:
                calls.known().switch.remote(switches)

    def _command(self, consumer: str, name: str, *arguments: Any) -> None:
        number = next(self._numbers[consumer])
        self._consumers[consumer].command.remote(number, name, *arguments)

    def news(self) -> News:
        """What arrived since the last call; asks again where an answer came."""
        news = News()
        for name, actor in list(self._consumers.items()):
            if not self._has_started(name, news):
                continue
            report = self._hear(("consumer", name), actor.report.remote, news.lost_consumers)
            if report is not None:
                news.consumers[name] = report
                self._releasing.difference_update({name} if report.released else ())
        news.going = self._to_leave.consumers(self._processes)
        for name, calls in self._owners.items():
            heard = self._hear(("owner", name), calls.ask_report, news.lost_owners)
            if heard is not None:
                news.owners[name] = heard
                self._processes["owner", name] = heard.process
        news.left_owners = self._to_leave.released(self._processes, self._owners)
        for name in news.lost_owners | news.left_owners:
            self._end(("owner", name), self._owners[name].known())
        lost_queue: set[str] = set()
        if self._queue.actor is not None:
            process = self._hear(QUEUE, self._queue.actor.ping.remote, lost_queue)
            if process is not None:
                self._processes[QUEUE] = process
        if lost_queue:
            news.queue_lost = True
            self._queue.lost()
        return news

    def leave(self, deadline: Deadline) -> Left:
        """Release tables and end every process of this run."""
        left = Left()
        closing = [actor.close.remote() for actor in self._consumers.values()]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=min(CLOSE_S, deadline.left_s()))
        for actor in [*self._consumers.values(), *self._prepared.values()]:
            ray.kill(actor)
        if self._owners:
            with _taken(left):
                self._queue.ensure(deadline)
        for name, calls in self._owners.items():
            with _taken(left):
                self._release(calls, deadline)
            with _taken(left):
                left.owners[name] = result(calls.ask_report(), max(1.0, deadline.left_s()))
        _end_owners(self._owners.values(), deadline)
        with _taken(left):
            self._queue.leave(deadline)
        for actors in (self._consumers, self._prepared, self._starting, self._owners):
            actors.clear()
        return left

    def _release(self, calls: OwnerCalls, deadline: Deadline) -> None:
        """Let an owner leave; what it commits last may be the first that needs the queue."""
        # The release itself takes a moment.
        left_s = deadline.left_s()
        leaving = calls.actor().leave.remote(left_s * 0.8)
        while self._queue.actor is None:
            if ray.wait([leaving], timeout=ASK_DRAINING_AGAIN_S)[0]:
                break
            report = result(calls.ask_report(), max(1.0, deadline.left_s()))
            if report.state.needs_queue:
                self._queue.start()
        result(leaving, max(1.0, left_s))

    def _has_started(self, consumer: str, news: News) -> bool:
        """Whether a consumer has a process; until then its silence means nothing."""
        asked = self._starting.get(consumer)
        if asked is None:
            return True
        ready, _ = ray.wait([asked.ref], timeout=0)
        if not ready:
            news.waiting[consumer] = time.monotonic() - asked.since
            return False
        try:
            self._processes["consumer", consumer] = result(asked.ref)
        except OwnerLost as error:
            log.warning("%s: %s", consumer, error.message)
            news.lost_consumers.add(consumer)
            return False
        del self._starting[consumer]
        return True

    def _hear(self, key: tuple[str, str], ask: Callable[[float], Any], lost: set[str]) -> Any:
        asked = self._asked.get(key)
        try:
            if asked is None:
                # The queue's first answer comes when it has started.
                self._asked[key] = _Asked(ask(0.0), START_TIMEOUT_S if key == QUEUE else 0.0)
                return None
            ready, _ = ray.wait([asked.ref], timeout=0)
            silent_s = time.monotonic() - asked.since
            if not ready and silent_s < max(self._silent_s, asked.patience_s):
                return None
            heard = result(asked.ref, None if ready else 0)
            soon = key[1] in self._releasing
            self._asked[key] = _Asked(ask(ASK_DRAINING_AGAIN_S if soon else self._ask_again_s))
        except OwnerLost as error:
            log.warning("%s %s: %s", *key, error.message)
            self._asked.pop(key, None)
            lost.add(key[1])
            return None
        return heard

    def _end(self, key: tuple[str, str], actor: Any) -> None:
        """Make sure that a process written off is gone, also when it is frozen."""
        self._asked.pop(key, None)
        if actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)
        process = self._processes.pop(key, None)
        if process is not None:
            process.kill()


def _end_owners(owners: Iterable[OwnerCalls], deadline: Deadline) -> None:
    """End the owners, whose spans are sent at the same time: a collector may be away."""
    actors = [*filter(None, (calls.known() for calls in owners))]
    if flushing := [actor.flush.remote() for actor in actors]:
        ray.wait(flushing, num_returns=len(flushing), timeout=min(2 * FLUSH_S, deadline.left_s()))
    for actor in actors:
        ray.kill(actor)


@contextlib.contextmanager
def _taken(left: Left) -> Iterator[None]:
    """Keeps what shows that a table is no longer this run's; whatever else fails is left."""
    try:
        yield
    except (Fenced, LogDamaged) as error:
        left.error = left.error or error
    except RayLakeError as error:
        log.warning("%s", error.message)
