"""Members come and go every two seconds: killed, frozen for a moment, frozen for good."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from tests.harness import producing
from tests.harness.producing import DIRTY
from tests.harness.scope import TABLE, MakeScope, Scope
from tests.harness.waiting import until

CONSUMERS = 4
PARTITIONS = 8
EVERY_S = 2.0
SILENT_S = 5.0
GAP_S = 20.0
PARTITION_GAP_S = 60.0
FEWEST_LEFT = 2
# Of 30 events a minute 15 end a process: the supervisor gives up beyond 20.
MOMENT = "frozen for a moment"
EVENTS = ("killed", MOMENT, "frozen for good", MOMENT)


@dataclass
class Churn:
    """What is done to the members of one run.

    Attributes:
        scope: The run.
        choose: Draws the victims.
        ended: Members that were killed, or frozen until the run gave up on them.
        woken: Members that were frozen for a moment.
        holders: Who was seen reading each partition.
    """

    scope: Scope
    choose: random.Random
    ended: int = 0
    woken: int = 0
    holders: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    _asleep: int = 0

    def look(self) -> dict[int, list[str]]:
        """The members of the status document that live and are not frozen, with partitions."""
        found = {}
        for one in self.scope.status().get("consumers", {}).values():
            if one["pid"] and _awake(one["pid"]):
                found[one["pid"]] = list(one["partitions"])
                for partition in one["partitions"]:
                    self.holders[partition].add(one["pid"])
        return found

    def go_on(self, events: Iterator[str]) -> None:
        """Wake who sleeps, then do the next thing to somebody."""
        if self._asleep:
            self._signal(self._asleep, signal.SIGCONT)
            self.woken += 1
            self._asleep = 0
        members = self.look()
        if not members:
            return
        event, victim = next(events), self.choose.choice(sorted(members))
        if event != MOMENT and len(members) <= FEWEST_LEFT:
            # On a busy machine members come slower than they go: some stay.
            event = MOMENT
        self._signal(victim, signal.SIGKILL if event == "killed" else signal.SIGSTOP)
        self.scope.hit(f"consumer {event}")
        if event == MOMENT:
            self._asleep = victim
        else:
            self.ended += 1

    def end(self) -> None:
        """Wake who sleeps still."""
        if self._asleep:
            self._signal(self._asleep, signal.SIGCONT)
            self.woken += 1

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        # The run may have ended it meanwhile: then there is nobody to wake.
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def _awake(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _gaps_s(scope: Scope, began_s: float, ended_s: float) -> tuple[float, dict[int, float]]:
    """The longest time without a data commit, of the table and of each partition, seconds."""
    folder = scope.table(TABLE) / "_delta_log"
    moments: dict[int, list[float]] = {number: [began_s] for number in range(PARTITIONS)}
    all_of_them = [began_s]
    for version, ours in scope.commits():
        at_s = (folder / f"{version:020d}.json").stat().st_mtime
        if not began_s < at_s < ended_s:
            continue
        for one in ours.get("ranges", ()):
            all_of_them.append(at_s)
            moments[one["partition"]].append(at_s)
    return _longest([*all_of_them, ended_s]), {
        number: _longest([*times, ended_s]) for number, times in moments.items()
    }


def _longest(times: list[float]) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(sorted(times)))


@pytest.mark.spec("A3", "B1")
@pytest.mark.parametrize(
    "churn_s",
    [
        pytest.param(12.0, id="12 s"),
        pytest.param(180.0, id="3 minutes", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_failure_06_members_come_and_go_every_two_seconds_and_the_run_goes_on(
    make_scope: MakeScope, seed: int, churn_s: float
) -> None:
    """What a member was reading goes to the others, and to the one that comes in its place."""
    scope = make_scope(partitions=PARTITIONS)
    scope.pipeline(ingest={"consumers": CONSUMERS})
    churn = Churn(scope, random.Random(seed))
    job = scope.start(RAYLAKE_SILENT_S=str(SILENT_S))
    record = scope.folder / "steady.parquet"
    places = list(range(PARTITIONS))
    with producing.steadily(
        scope.broker.bootstrap, scope.topic, record, partitions=places, mix=DIRTY, seed=seed
    ) as steady:
        scope.run_until(lambda: len(scope.ends_in_log()) == PARTITIONS, "all partitions are read")
        scope.run_until(lambda: len(churn.look()) == CONSUMERS, "all members are there")
        began_s = time.time()
        events = itertools.cycle(EVENTS)
        for number in range(int(churn_s / EVERY_S)):
            churn.go_on(events)
            moment_s = began_s + (number + 1) * EVERY_S
            scope.run_until(lambda at_s=moment_s: time.time() >= at_s, "the next two seconds")
        churn.end()
        ended_s = time.time()
        sent = steady.sent
        until(lambda: steady.sent > sent + 50, "records after the churn")
    scope.records.append(record)
    scope.produced += steady.sent
    # Not aborted ones: behind the last row they would wait for the idle commit interval.
    scope.produce(10 * PARTITIONS)
    scope.until_caught_up()
    scope.run_until(lambda: len(churn.look()) == CONSUMERS, "as many members as before")
    restarts = scope.status()["restarts"]
    job.signal(signal.SIGTERM)
    job.ends_with(0)

    gap_s, gaps_s = _gaps_s(scope, began_s, ended_s)
    print(
        f"{churn.ended} members ended, {churn.woken} came back, longest time without a commit "
        f"{gap_s:.1f} s, of one partition {max(gaps_s.values()):.1f} s: {scope.audit().to_text()}"
    )
    assert gap_s < GAP_S, "the run stood still"
    assert max(gaps_s.values()) < PARTITION_GAP_S, f"partitions were left alone: {gaps_s}"
    assert restarts["consumer"] >= churn.ended > 0
    assert churn.woken > 0
    assert restarts["owner"] == restarts["dead_letters"] == 0
    readers = {partition: len(pids) for partition, pids in churn.holders.items()}
    assert len(readers) == PARTITIONS
    assert max(readers.values()) > 1, "no partition ever moved"
    scope.verify("data")
