"""What every commit of every owner keeps to, on real tables (SPEC L 40 to 44).

``RAYLAKE_EXAMPLES`` asks for more examples; `make chaos` does.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake import faults
from raylake.clock import ManualClock
from raylake.delta.checkpoint import checkpoint
from raylake.delta.owner_core import CONFLICTS, Contended
from raylake.errors import Fenced, Retryable
from tests.integration.delta.scope import P0, P1, Scope
from tests.integration.delta.turns import ENDINGS, Stage, Turn, files_of, turns, txns_of

MORE = os.environ.get("RAYLAKE_EXAMPLES")
# The few examples of the short form are always the same ones, so that what they meet is known.
CEILINGS = [
    min(CONFLICTS.max_s, CONFLICTS.initial_s * 2**number)
    for number in range(CONFLICTS.attempts - 1)
]
EXAMPLES = settings(max_examples=int(MORE or 15), derandomize=MORE is None)


@contextmanager
def staged(durability: str = "none") -> Iterator[Stage]:
    """A new table in a folder of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stage(Scope(Path(folder)), durability).playing() as stage,
    ):
        yield stage


def kind_of(actions: list[dict[str, Any]]) -> str:
    """What a version is; empty for one that is not ours."""
    info = next(action["commitInfo"] for action in actions if "commitInfo" in action)
    return str(info.get("raylake", {}).get("kind", ""))


def test_property_40_concurrent_writes_serialise_in_every_order_of_turns() -> None:
    """The log is one order of the commits that were acknowledged, and of nothing else."""
    fired: Counter[str] = Counter()

    @EXAMPLES
    @given(turns(owners=3))
    def holds(played: list[Turn]) -> None:
        with staged() as stage:
            for turn in played:
                stage.play(turn)
            log = stage.log()
            numbers = [txns_of(actions)["raylake/owner"] for actions in log.values()]
            assert numbers == sorted(set(numbers))
            files = {version: files_of(actions) for version, actions in log.items()}
            assert {v: f for v, f in files.items() if f} == {
                v: f for v, f in stage.landed.items() if f
            }
            assert stage.read() == stage.held
            fired.update(stage.fired)

    holds()
    met_each(fired, ("", "fenced", "fenced with a refreshed handle", "overtaken"))


@settings(EXAMPLES, max_examples=max(3, EXAMPLES.max_examples // 4))
@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=2, max_size=4))
def test_property_40_concurrent_writes_of_threads_serialise(scripts: list[list[int]]) -> None:
    """Owners in threads of their own, all at once; the last one to attach does all of its own."""
    with tempfile.TemporaryDirectory() as folder:
        scope = Scope(Path(folder))
        scope.attach(durability="none").admit({P0: 0, P1: 0})
        barrier = threading.Barrier(len(scripts))

        def run(number: int) -> tuple[int, bool, set[str]]:
            barrier.wait(timeout=30)
            files: set[str] = set()
            owner = None
            try:
                owner = scope.attach(f"run-{number}", take_over=True, durability="none")
                for rows in scripts[number]:
                    at = owner.ends([P0])[P0].next
                    unit = scope.unit(owner, at, at + rows)
                    (outcome,) = owner.commit([unit])
                    assert outcome.status == "committed"
                    files |= {file.path for file in unit.files}
            except (Fenced, Retryable):
                return owner.epoch if owner else -1, False, files
            return owner.epoch, True, files

        with ThreadPoolExecutor(len(scripts)) as pool:
            ended = sorted(pool.map(run, range(len(scripts))), key=lambda one: one[0])
        assert ended[-1][1], "the newest owner was stopped"
        acknowledged = set().union(*(files for _, _, files in ended))
        stage = Stage(scope)
        assert set().union(*(files_of(actions) for actions in stage.log().values())) == acknowledged
        numbers = [txns_of(actions)["raylake/owner"] for actions in stage.log().values()]
        assert numbers == sorted(set(numbers))
        offsets = scope.offsets()
        assert offsets == list(range(len(offsets)))


def test_property_41_transaction_atomicity_whatever_ends_a_write() -> None:
    """Files, offsets, totals and the names of dead letters: each version holds all or nothing."""
    fired: Counter[str] = Counter()

    @EXAMPLES
    @given(turns(owners=2, endings=ENDINGS))
    def holds(played: list[Turn]) -> None:
        with staged() as stage:
            for turn in played:
                stage.play(turn)
                data = [v for v, actions in stage.log().items() if kind_of(actions) == "data"]
                assert data == list(stage.landed)
            known: dict[str, int] = {}
            for version, actions in stage.log().items():
                moved = {k: v - known.get(k, 0) for k, v in txns_of(actions).items()}
                known |= txns_of(actions)
                assert files_of(actions) == stage.landed.get(version, set())
                if version in stage.landed:
                    check_one(actions, moved, stage.letters[version])
            assert stage.read() == stage.held
            fired.update(stage.fired)

    holds()
    met_each(fired, ENDINGS)


def check_one(actions: list[dict[str, Any]], moved: dict[str, int], letters: set[str]) -> None:
    """The rows of its files, the offsets and totals of its txns, and what it says, agree."""
    (info,) = [a["commitInfo"]["raylake"] for a in actions if "commitInfo" in a]
    assert {one["path"] for one in info["dead_letters"]} == letters
    stored = sum(json.loads(a["add"]["stats"])["numRecords"] for a in actions if "add" in a)
    by_name = Counter()
    for app, by in moved.items():
        by_name[app.rsplit("/", 1)[1]] += by
    assert by_name["rows"] == stored == sum(one["rows"] for one in info["ranges"])
    assert by_name["dead"] == sum(one["dead"] for one in info["ranges"])
    assert by_name["next"] == stored + by_name["dead"] > 0


DISTURBANCES = st.sampled_from(["", "", "checkpoint", "evolve"])


@EXAMPLES
@given(st.lists(st.tuples(turns(owners=2), DISTURBANCES), min_size=1, max_size=3))
def test_property_42_snapshot_isolation_at_every_moment_of_a_commit(
    acts: list[tuple[list[Turn], str]],
) -> None:
    """A reader that began at any point of a commit sees whole commits, and the same for good."""
    with staged() as stage:
        readers: list[tuple[DeltaTable, set[tuple[int, int]]]] = []

        def open_reader() -> None:
            if (stage.scope.path / "_delta_log").is_dir() and len(readers) < 8:
                table = DeltaTable(stage.scope.path)
                readers.append((table, stage.read(table)))

        stage.at = open_reader
        for number, (played, disturbance) in enumerate(acts):
            for turn in played:
                stage.play(turn)
            newest = max(stage.owners.values(), key=lambda one: one.epoch, default=None)
            if disturbance == "checkpoint":
                checkpoint(stage.scope.path)
            elif disturbance == "evolve" and newest is not None:
                newest.evolve(pa.schema([(f"new_{number}", pa.string())]))
        assert readers
        for table, first in readers:
            assert stage.read(table) == first
            versions = [v for v in stage.history if v <= table.version()]
            assert first == (stage.history[versions[-1]] if versions else set())


@EXAMPLES
@given(turns(owners=3, endings=ENDINGS), st.booleans())
def test_property_43_log_atomicity_no_version_is_missing_torn_or_changed(
    played: list[Turn], checkpoints: bool
) -> None:
    """Whoever looks at the log, at any moment, sees whole versions, and never another one again."""
    with staged("sync") as stage:
        log = stage.scope.path / "_delta_log"
        seen: dict[str, tuple[bytes, int]] = {}

        def look() -> None:
            names = sorted(path.name for path in log.glob("*.json"))
            assert [int(name[:20]) for name in names] == list(range(len(names)))
            for name in names:
                content, inode = (log / name).read_bytes(), (log / name).stat().st_ino
                assert seen.setdefault(name, (content, inode)) == (content, inode)

        over = threading.Event()

        def keep_looking() -> int:
            looks = 0
            while not over.wait(0.002):
                look()
                looks += 1
            return looks

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(keep_looking)
            try:
                stage.at = look
                for turn in played:
                    stage.play(turn)
                    if checkpoints:
                        checkpoint(stage.scope.path)
            finally:
                over.set()
            assert looking.result() > 0
        look()
        for actions in stage.log().values():
            assert kind_of(actions)
            assert "raylake/owner" in txns_of(actions)


@EXAMPLES
@given(st.integers(0, CONFLICTS.attempts + 3), st.none() | st.integers(0, 5))
def test_property_44_conflict_retry_with_backoff_is_bounded_and_ends_when_fenced(
    conflicts: int, taken_over_at: int | None
) -> None:
    """Each conflict costs one wait, below a growing ceiling; a new owner ends it at once."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        scope, clock = Scope(Path(folder)), Waits()
        owner = scope.attach(clock=clock, durability="none")
        owner.admit({P0: 0})
        writes = 0

        def disturb(point: str, **_in_flight: Any) -> None:
            nonlocal writes
            if point != "owner.after_check":
                return
            writes += 1
            if writes - 1 == taken_over_at:
                with pytest.MonkeyPatch.context() as quiet:
                    quiet.setattr(faults, "reach", lambda *_, **__: None)
                    scope.attach("run-2", take_over=True, durability="none")
            elif writes <= conflicts:
                scope.foreign_commit()

        unit, version = scope.unit(owner, 0, 5), owner.version
        patch.setattr(faults, "reach", disturb)
        tries = min(conflicts + 1, CONFLICTS.attempts)
        fenced = taken_over_at is not None and taken_over_at < tries
        given_up = not fenced and conflicts >= CONFLICTS.attempts
        if fenced:
            last = taken_over_at == CONFLICTS.attempts - 1
            with pytest.raises(Retryable if last else Fenced):
                owner.commit([unit])
            assert writes == (taken_over_at or 0) + 1, "it wrote on after it was fenced"
        elif given_up:
            with pytest.raises(Retryable, match="another commit took version"):
                owner.commit([unit])
            assert writes == CONFLICTS.attempts
        else:
            (outcome,) = owner.commit([unit])
            assert (outcome.status, outcome.version) == ("committed", version + conflicts + 1)
        assert len(clock.waits) == (writes if fenced else writes - 1)
        for waited, ceiling in zip(clock.waits, CEILINGS, strict=False):
            assert 0 <= waited <= ceiling
        assert scope.offsets() == ([] if fenced or given_up else list(range(5)))
        if given_up:
            patch.undo()
            assert owner.commit([unit])[0].status == "committed"


def test_property_44_conflict_retry_with_backoff_spreads_and_grows(tmp_path: Path) -> None:
    """Over many rows of conflicts the waits differ, and the longest come near their ceilings."""
    clock = Waits()
    core = Scope(tmp_path).attach(clock=clock, durability="none")._core
    longest = [0.0] * len(CEILINGS)

    def never() -> None:
        raise Contended("always")

    for _ in range(200):
        clock.waits.clear()
        with pytest.raises(Contended):
            core.until_landed(never)
        assert len(set(clock.waits)) == len(CEILINGS)
        longest = [max(pair) for pair in zip(longest, clock.waits, strict=True)]
    for waited, ceiling in zip(longest, CEILINGS, strict=True):
        assert 0.9 * ceiling < waited <= ceiling


class Waits(ManualClock):
    """Remembers how long each wait was."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        super().sleep(seconds)


def met_each(fired: Counter[str], wanted: Iterable[str]) -> None:
    """Turns that never lead to one of these show nothing about it."""
    missed = [what for what in wanted if not fired[what]]
    assert not missed, f"never met: {missed}; {fired}"
