"""Seeded SIGKILLs of consumers, the owner, the transformer and the Spark host, never while idle.

A kill is armed at a crash point (:mod:`raylake.faults`) that processes pass only while they write,
hand over or commit. Those of ingestion follow each other: the next one is armed after a commit
landed since the last one hit. Those of silver and gold are armed in between, while ingestion has
kills before it: so there are records to come that reach their crash points.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raylake import faults
from raylake.clock import Clock
from raylake.delta import log_files
from raylake.demo.tables import GOLD, SILVER

POINTS = {
    "consumer.writing": "a consumer, while it wrote {rows} rows",
    "consumer.written": "a consumer, {rows} rows written and not handed over",
    "consumer.handed_over": "a consumer, {rows} rows handed over and not answered",
    "owner.before_commit": "the owner, with {units} hand-overs to commit",
    "owner.after_check": "the owner, between the check and a {kind} commit",
    "owner.after_commit": "the owner, a {kind} commit landed and not answered",
    "owner.before_dead_letters": "the owner, version {version} committed, dead letters not yet",
    "dlq.before_commit": "the dead-letter queue, before the letters of version {version}",
}
DERIVED = {
    "transform.before_commit": "the transformer, before a commit of {table}",
    "transform.after_commit": "the transformer, a commit of {table} landed and not followed up",
    "spark.committed": "the Spark host, a commit of {table} landed and not answered",
}
FIRST_ROUND = (
    "consumer.writing",
    "owner.after_check",
    "consumer.handed_over",
    "owner.after_commit",
    "consumer.written",
    "owner.before_dead_letters",
)
WAIT_S = 0.02
MAX_SPREAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Aim:
    """A kill of silver and gold.

    Attributes:
        point: Where.
        table: What must be in flight there.
    """

    point: str
    table: str


def of_derived(kills: int, silver: Path | None) -> list[Aim]:
    """Which of some kills are of silver and gold: a third of them, two at most.

    Args:
        kills: All of them.
        silver: Its folder, where Spark writes it; None: delta-rs does.
    """
    found = [Aim("transform.before_commit", SILVER)]
    if silver is None:
        found.append(Aim("transform.after_commit", GOLD))
    else:
        found.append(Aim("spark.committed", str(silver)))
    return found[: kills // 3]


@dataclass(slots=True)
class Kills:
    """Arms kills one after the other, in a thread of its own.

    Attributes:
        folder: The value of ``RAYLAKE_FAULTS`` of the processes concerned.
        table: The table whose commits are watched.
        wanted: How many of ingestion.
        derived: Those of silver and gold, fewer than of ingestion.
        seed: Decides points and moments.
        spread_s: A kill is armed up to this long after the commit before it.
        clock: Time.
    """

    folder: Path
    table: Path
    wanted: int
    derived: Sequence[Aim]
    seed: int
    spread_s: float
    clock: Clock
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="kills", daemon=True)
        self._thread.start()

    def stop(self) -> list[dict[str, Any]]:
        """End; returns the kills that hit, with what was in flight."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return faults.fired(self.folder)

    def _run(self) -> None:
        choose = random.Random(self.seed)  # noqa: S311
        points = list(FIRST_ROUND)
        choose.shuffle(points)
        for number in range(self.wanted):
            point = points[number] if number < len(points) else choose.choice(list(POINTS))
            if not self._until_commit(self._commits()):
                return
            self.clock.sleep(choose.uniform(0.0, self.spread_s))
            match = {"kind": "data"} if point in ("owner.after_check", "owner.after_commit") else {}
            skip = choose.randrange(2) if self.spread_s >= MAX_SPREAD_S else 0
            faults.arm(self.folder, point, name=f"{number:03d}", skip=skip, match=match)
            if not self._until_fired(number):
                return
            if number < len(self.derived):
                aim = self.derived[number]
                match = {"table": aim.table}
                faults.arm(self.folder, aim.point, name=f"derived-{number}", match=match)

    def _commits(self) -> int:
        versions = log_files.commit_versions(self.table)
        return versions[-1] if versions else -1

    def _until_commit(self, seen: int) -> bool:
        return self._until(lambda: self._commits() > seen)

    def _until_fired(self, seen: int) -> bool:
        def hit() -> int:
            return sum(one["point"] in POINTS for one in faults.fired(self.folder))

        return self._until(lambda: hit() > seen)

    def _until(self, holds: Callable[[], bool]) -> bool:
        while not self._stop.is_set():
            if holds():
                return True
            self.clock.sleep(WAIT_S)
        return False


def told(fault: dict[str, Any]) -> str:
    """One kill in plain words: who, and what was in flight."""
    known = {"rows": "?", "version": "?", "kind": "?", **fault}
    units = fault.get("units")
    # Some points know a table by its address.
    known["table"] = ".".join(Path(str(fault.get("table", "?"))).parts[-2:])
    known["units"] = len(units) if isinstance(units, list) else "some"
    return {**POINTS, **DERIVED}[str(fault["point"])].format_map(known)
