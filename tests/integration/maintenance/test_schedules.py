"""A table's life by a seed: writes, upkeep, paused maintainers, vacuums, readers of old versions.

Each step is one whole operation, or half of a rewrite: one maintainer has written its files and is
frozen, before it looks whether what it read is still live (it gets a fresh handle), or after (its
handle is stale). An auditor, which knows the rows by what was asked for alone, reads the newest
version after each step, and each one that must be readable after each vacuum and at the end.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from raylake.client.upkeep import ByHand
from raylake.clock import ManualClock
from raylake.delta.leases import Leases
from raylake.delta.rewriting import FileGroup
from raylake.delta.version_pins import Pins
from raylake.maintenance.plan import plan
from raylake.maintenance.policy import Policy
from raylake.maintenance.round_parts import REWRITES, jobs_of
from raylake.maintenance.subjects import Subject
from raylake.storage.place import place
from raylake.tables.aside import put_task, write_aside
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.delta_rs_tasks import Task
from raylake.tables.requests import Append, Create, Delete, Upsert, Write
from raylake.tables.upkeep_requests import Checkpoint, PutInPlace, Vacuum

SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.string()), ("n", pa.int64())])
DAY_S = 86_400.0
START_S = 1_900_000_000.0
KEPT_S = 7 * DAY_S
POLICY = Policy(small_files=2, zorder=("n",), zorder_depth=1.5, checkpoint_commits=7)
Rows = Counter[tuple[int, str, int]]


@dataclass
class Frozen:
    """A maintainer between rewrite and commit.

    Attributes:
        request: What it is about to put in place.
        task: The commit with the handle that it had then; None: it takes a fresh one.
    """

    request: PutInPlace
    task: Task | None


class Life:
    """A table, what it must hold, and what happens to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.table = folder / "t"
        self.rng = random.Random(seed)
        self.clock = ManualClock(START_S)
        self.engine = DeltaRsEngine(self.clock)
        self.rows: dict[int, tuple[str, int]] = {}
        self.versions: list[Rows] = []
        self.made_s: list[float] = []
        self.dated: set[str] = set()
        self.frozen: list[Frozen] = []
        self.held: dict[str, set[int]] = {}
        self.pinned: dict[str, int] = {}
        self.next_id = 0
        self.told: list[str] = []
        self.count: Counter[str] = Counter()
        properties = {"delta.checkpointInterval": "100000"}
        self.do(Create(SCHEMA, ("day",), properties))
        self.id = str(DeltaTable(self.table).metadata().id)
        self.audited()
        self.steps: dict[str, tuple[int, Callable[[], object]]] = {
            "append": (6, self.append),
            "merge": (2, self.merge),
            "delete": (1, self.delete),
            "maintain": (2, self.maintain),
            "freeze": (6, self.freeze),
            "release": (7, self.release),
            "vacuum": (2, self.vacuum),
            "hold": (1, self.hold),
            "let go": (1, self.let_go),
        }

    def live(self, steps: int) -> None:
        """So many steps, and then the end of all that is under way."""
        names = list(self.steps)
        weights = [self.steps[name][0] for name in names]
        for name in self.rng.choices(names, weights, k=steps):
            self.step(name)
        while self.frozen:
            self.step("release")
        self.step("vacuum")
        self.step("maintain")
        # Nothing is left but what a version names.
        self.clock.jump(60 * DAY_S)
        self.held, self.pinned = {}, {}
        for one in (self.table / "_raylake").rglob("*.json"):
            one.unlink()
        self.step("vacuum")
        self.do(Vacuum(orphans=True))
        live = {Path(one).name for one in DeltaTable(self.table).file_uris()}
        named = live | self.named_since(self.clock.now() - KEPT_S)
        assert {
            one.name for one in self.table.rglob("*.parquet") if "_delta_log" not in one.parts
        } <= (named), "files that no version within the retention names"

    def named_since(self, at_s: float) -> set[str]:
        found = set()
        for version, made_s in enumerate(self.made_s):
            if made_s >= at_s:
                found |= {Path(one).name for one in DeltaTable(self.table, version).file_uris()}
        return found

    def step(self, name: str) -> None:
        self.told.append(f"{name} at version {len(self.versions) - 1}")
        self.steps[name][1]()
        self.audited()
        if name == "vacuum":
            self.everything_within_the_retention_reads_as_it_did()
        self.clock.jump(self.rng.choice([0.01, 0.01, 0.3, 1, 4]) * DAY_S)

    def do(self, operation: Write) -> Any:
        return self.engine.execute(str(self.table), operation)

    # -- what others do

    def append(self) -> None:
        new = {}
        for _ in range(self.rng.randint(1, 40)):
            new[self.next_id] = (self.rng.choice("ab"), self.rng.randrange(1000))
            self.next_id += 1
        self.rows |= new
        self.do(Append(source(new)))

    def merge(self) -> None:
        day = self.rng.choice("ab")
        mine = [one for one, row in sorted(self.rows.items()) if row[0] == day]
        known = self.rng.sample(mine, min(2, len(mine)))
        changed = {one: (self.rows[one][0], self.rng.randrange(1000)) for one in known}
        changed[self.next_id] = (day, 0)
        self.next_id += 1
        self.rows |= changed
        self.do(Upsert(source(changed), ("id",)))

    def delete(self) -> None:
        rest = self.rng.randrange(5)
        self.rows = {one: row for one, row in self.rows.items() if one % 5 != rest}
        self.do(Delete(f"id % 5 = {rest}"))

    def hold(self) -> None:
        """A reader of an old version comes, or a version is pinned."""
        there = self.within()
        version, name = self.rng.choice(sorted(there)), f"r{len(self.told)}"
        if self.rng.random() < 0.5:
            Leases(self.table, self.clock).renew(name, self.id, version, 400 * DAY_S)
            # What a vacuum took between a pinned version and now does not come back.
            self.held[name] = {one for one in there if one >= version}
        else:
            until_ms = int((self.clock.now() + 400 * DAY_S) * 1000)
            Pins(self.table, self.clock).pin(name, self.id, version, until_ms)
            self.pinned[name] = version

    def let_go(self) -> None:
        if self.held:
            name = self.rng.choice(sorted(self.held))
            Leases(self.table, self.clock).release(name)
            del self.held[name]
        elif self.pinned:
            name = self.rng.choice(sorted(self.pinned))
            Pins(self.table, self.clock).unpin(name)
            del self.pinned[name]

    # -- upkeep

    def subject(self) -> Subject:
        return Subject("silver.t", str(self.table), POLICY, None)

    def maintain(self) -> None:
        # A log entry's age is that of its file: each must be dated before the next action.
        found = ByHand(clock=self.clock, told=lambda _: self.date()).run([self.subject()])
        assert found.failures == {}
        assert [one for one in found.outcomes if one.ending == "failed"] == []
        self.count.update(one.action.kind for one in found.outcomes if one.ending == "done")

    def freeze(self) -> None:
        """A maintainer writes the files of a job, and is stopped before, or in, its commit."""
        found = plan(str(self.table), POLICY, now_s=self.clock.now())
        actions = [one for one in found.actions if one.kind in REWRITES]
        if not actions:
            return
        job = next(iter(jobs_of(self.subject(), found, [self.rng.choice(actions)])))
        groups: list[FileGroup] = []
        for piece in job.pieces:
            groups += write_aside(piece).groups
        request = PutInPlace(tuple(groups), job.pieces[0].version, job.pieces[0].parameters)
        task = put_task(place(str(self.table)), request) if self.rng.random() < 0.5 else None
        self.frozen.append(Frozen(request, task if isinstance(task, Task) else None))

    def release(self) -> None:
        if not self.frozen:
            return
        one = self.frozen.pop(self.rng.randrange(len(self.frozen)))
        if one.task is None:
            done = self.do(one.request)
            self.count["put" if done.changed else "lost"] += 1
            return
        try:
            one.task.run(CommitProperties())
            self.count["put by a stale handle"] += 1
        except CommitFailedError:
            self.count["stale"] += 1

    def vacuum(self) -> None:
        done = self.do(Vacuum(orphans=self.rng.random() < 0.5))
        self.count["vacuumed"] += len(done.paths)

    # -- the auditor

    def date(self) -> None:
        """New log entries and files are as old as the clock says."""
        now_s = self.clock.now()
        for entry in sorted((self.table / "_delta_log").glob("*.json")):
            if entry.name not in self.dated:
                self.dated.add(entry.name)
                actions = [json.loads(line) for line in entry.read_text().splitlines()]
                for action in actions:
                    for kind, name in (
                        ("commitInfo", "timestamp"),
                        ("remove", "deletionTimestamp"),
                    ):
                        if kind in action:
                            action[kind][name] = int(now_s * 1000)
                entry.write_text("\n".join(map(json.dumps, actions)))
                os.utime(entry, (now_s, now_s))
        for file in self.table.rglob("*.parquet"):
            if str(file) not in self.dated:
                self.dated.add(str(file))
                os.utime(file, (now_s, now_s))

    def audited(self) -> None:
        """The newest version has the rows that were asked for."""
        self.date()
        wanted = Counter((one, day, n) for one, (day, n) in self.rows.items())
        latest = DeltaTable(self.table).version()
        while len(self.versions) <= latest:
            # What upkeep adds to a step's versions has the same rows.
            self.versions.append(wanted)
            self.made_s.append(self.clock.now())
        assert self.read(latest) == wanted, self.story()

    def within(self) -> set[int]:
        """Versions that must be readable."""
        horizon_s, latest = self.clock.now() - KEPT_S, len(self.versions) - 1
        found = {v for v, at_s in enumerate(self.made_s) if at_s > horizon_s} | {latest}
        found |= {max((v for v, at_s in enumerate(self.made_s) if at_s <= horizon_s), default=0)}
        for versions in self.held.values():
            found |= versions | set(range(max(versions), latest + 1))
        return found | set(self.pinned.values())

    def everything_within_the_retention_reads_as_it_did(self) -> None:
        for version in sorted(self.within()):
            assert self.read(version) == self.versions[version], f"{version}: {self.story()}"

    def read(self, version: int) -> Rows:
        found = DeltaTable(self.table, version).to_pyarrow_table().select(SCHEMA.names)
        return Counter(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def story(self) -> str:
        return "\n".join(self.told)


def source(rows: dict[int, tuple[str, int]]) -> pa.Table:
    days, numbers = [day for day, _ in rows.values()], [n for _, n in rows.values()]
    return pa.table({"id": list(rows), "day": days, "n": numbers}, schema=SCHEMA)


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Life:
    made = Life(tmp_path, getattr(request, "param", 0))
    # What RayLake's own commits carry; those of delta-rs get their dates after each step.
    monkeypatch.setattr(time, "time", made.clock.now)
    return made


@pytest.mark.spec("F2", "F3")
@pytest.mark.parametrize("life", [4, 5], indirect=True)
def test_property_31_versions_keep_their_rows_whatever_upkeep_does(life: Life) -> None:
    life.live(35)
    print(dict(life.count))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.spec("F2", "F3")
@pytest.mark.parametrize("start", range(4))
def test_property_31_versions_keep_their_rows_through_many_long_lives(
    tmp_path: Path, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = int(os.environ.get("RAYLAKE_CHAOS_SEED", "0"))
    seen: Counter[str] = Counter()
    for seed in range(first + 5 * start, first + 5 * start + 5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with monkeypatch.context() as patched:
            one = Life(folder, seed)
            patched.setattr(time, "time", one.clock.now)
            one.live(120)
            seen += one.count
    assert all(seen[one] for one in EVERYTHING), seen


@pytest.mark.spec("F2", "F3")
@pytest.mark.parametrize("handle", ["fresh", "stale"])
def test_failure_27_what_a_vacuum_took_from_a_frozen_maintainer_is_not_put_in_place(
    life: Life, handle: str
) -> None:
    for _ in range(6):
        life.step("append")
    while not life.frozen or (life.frozen[-1].task is None) != (handle == "fresh"):
        life.freeze()
    while len(life.frozen) > 1:
        life.frozen.pop(0)
    life.audited()
    life.clock.jump(8 * DAY_S)
    written = [one.path for group in life.frozen[0].request.groups for one in group.added]
    taken = life.do(Vacuum(orphans=True)).paths
    assert set(written) <= set(taken)
    life.step("release")
    assert life.count["lost"] + life.count["stale"] == 1
    life.step("maintain")
    assert life.count["compact"] + life.count["zorder"] > 0


@pytest.mark.spec("F1", "F2")
def test_a_run_leaves_the_log_that_a_pin_needs(life: Life) -> None:
    for _ in range(8):
        life.step("append")
    life.step("maintain")
    life.step("append")
    pinned = len(life.versions) - 1
    until_ms = int((life.clock.now() + 400 * DAY_S) * 1000)
    Pins(life.table, life.clock).pin("p", life.id, pinned, until_ms)
    life.pinned["p"] = pinned
    for _ in range(2):
        life.clock.jump(40 * DAY_S)
        for _ in range(8):
            life.step("append")
        life.do(Checkpoint())
        life.audited()
    life.step("maintain")
    # What lies below the checkpoint before the pin has left, and nothing else.
    assert life.count["clean_log"] > 0
    life.everything_within_the_retention_reads_as_it_did()


EVERYTHING = ("compact", "zorder", "checkpoint", "put", "put by a stale handle", "stale", "lost")
