"""The debt of a table: by increments as anew, and its depth as counted by hand."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.delta.live_rows import SourceFile
from raylake.maintenance.depth import boxes, in_order, points_in, regions, shares
from raylake.maintenance.kept_state import keep, kept
from raylake.maintenance.plan import look, plan
from raylake.maintenance.policy import Policy
from raylake.maintenance.statistics import Ranged
from raylake.tables.compaction_plan import bins
from tests.harness.made_up_logs import MadeUpLog, added, removed

NOW_S = 100 * 86_400.0
DAY_MS = 86_400_000
PATHS = [f"day=d/{n}.parquet" for n in range(8)]
ENDS = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: tuple(sorted(pair)))
TEXTS = st.tuples(st.text("abé", max_size=9), st.text("abé", max_size=9))


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    texts = sorted(draw(TEXTS), key=str.encode)
    return {
        "size": draw(st.integers(0, 200)),
        "day": draw(st.sampled_from(["d", "e", None])),
        "n": draw(st.none() | ENDS),
        "t": draw(st.none() | st.just((texts[0], texts[1]))),
    }


CHANGE = st.fixed_dictionaries(
    {
        "file": files(),
        "deleted": st.sampled_from([0, 1, 2]),
        "at_ms": st.sampled_from([0, 50, 95, 99]).map(lambda day: day * DAY_MS),
    }
)
COMMIT = st.dictionaries(st.sampled_from(PATHS), CHANGE, max_size=4)


def actions(commit: dict[str, Any], live: dict[str, tuple[dict[str, Any], int]]) -> list[Any]:
    """Files that are not there are added, of those that are rows are deleted, or all of them."""
    found = []
    for path, change in commit.items():
        file, deleted = live.pop(path, ({}, 0))
        if file:
            found.append(removed(path, change["at_ms"], file["size"], deleted))
        if not file or change["deleted"] > deleted:
            deleted = change["deleted"] if file else 0
            live[path] = (file or change["file"], deleted)
            found.append(added(path, **live[path][0], deleted=deleted))
    return found


STEP = st.one_of(
    COMMIT, COMMIT, COMMIT, st.sampled_from(["checkpoint", "look", "keep", "clean up"])
)
POLICY = Policy(target_file_bytes=400, small_files=2, zorder=("n", "t"), zorder_depth=1.5)


def comparable(found: Any) -> Any:
    rows = sorted(found.state.rows.to_pylist(), key=str)
    return found.debt, found.state.checkpoint, str(rows)


@pytest.mark.spec("F1")
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEP, min_size=1, max_size=14))
def test_property_debt_by_increments_is_debt_computed_anew(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, at = MadeUpLog(Path(folder) / "t"), Path(folder) / "kept.arrow"
        address = str(log.root)
        live: dict[str, tuple[dict[str, Any], int]] = {}
        for step in [*steps, "look"]:
            if step == "checkpoint":
                DeltaTable(address).create_checkpoint()
            elif step == "clean up":
                checkpoints = sorted(log.root.glob("_delta_log/*.checkpoint.parquet"))
                for one in log.root.glob("_delta_log/*.json"):
                    if checkpoints and one.name[:20] < checkpoints[-1].name[:20]:
                        one.unlink()
            elif isinstance(step, dict):
                log.commit(actions(step, live))
            else:
                by_increments = look(address, POLICY, at=at, now_s=NOW_S)
                anew = look(address, POLICY, now_s=NOW_S)
                assert comparable(by_increments) == comparable(anew)
                if step == "keep":
                    keep(at, by_increments.state)
                    assert kept(at) == by_increments.state


BOX = st.tuples(ENDS, ENDS)


@settings(max_examples=150, deadline=None)
@given(found=st.lists(BOX, min_size=1, max_size=12), data=st.data())
def test_property_depth_is_in_how_many_boxes_points_lie(
    found: list[Any], data: st.DataObject
) -> None:
    lows = np.array([[one[at][0] for one in found] for at in range(2)], float)
    highs = np.array([[one[at][1] for one in found] for at in range(2)], float)
    points = points_in(lows, highs)
    assert ((lows <= points) & (points <= highs)).all()
    held = [
        sum(bool(((lows[:, j] <= point) & (point <= highs[:, j])).all()) for j in range(len(found)))
        for point in points.T
    ]
    assert shares(lows, highs).sum() == pytest.approx(sum(held) / len(found))
    # Whatever the order of the files, the same points are asked.
    many = np.tile(lows, 9) + np.repeat(np.arange(9.0), len(found))
    wide = many + np.tile(highs - lows, 9)
    order = np.array(data.draw(st.permutations(range(many.shape[1]))))
    one = shares(*(ends[:, in_order(many, wide, np.zeros_like(order))] for ends in (many, wide)))
    ends = (many[:, order], wide[:, order])
    other = in_order(*ends, np.zeros_like(order))
    assert one.tolist() == shares(ends[0][:, other], ends[1][:, other]).tolist()


@settings(max_examples=200, deadline=None)
@given(found=st.lists(BOX, max_size=10), columns=st.sampled_from([1, 2]))
def test_property_files_that_overlap_are_of_one_region(found: list[Any], columns: int) -> None:
    lows = np.array([[one[at][0] for one in found] for at in range(columns)], float)
    highs = np.array([[one[at][1] for one in found] for at in range(columns)], float)
    label = regions(lows, highs)
    joined = list(range(len(found)))
    for i in range(len(found)):
        for j in range(i):
            if all(lows[:, i] <= highs[:, j]) and all(lows[:, j] <= highs[:, i]):
                old, new = joined[i], joined[j]
                joined = [new if one == old else one for one in joined]
    same = [(i, j) for i in range(len(found)) for j in range(i)]
    assert all(label[i] == label[j] for i, j in same if joined[i] == joined[j])
    if columns == 1:
        assert all(label[i] != label[j] for i, j in same if joined[i] != joined[j])


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=8))
def test_property_texts_lie_in_the_order_of_their_bytes(texts: list[str]) -> None:
    column = pa.chunked_array([pa.array(texts, pa.string())])
    files = pa.table({"low_0": column, "high_0": column})
    numbers, _ = boxes(files, (Ranged("t", "text"),))
    pairs = [
        (a, b, x, y)
        for a, x in zip(texts, numbers[0], strict=True)
        for b, y in zip(texts, numbers[0], strict=True)
    ]
    assert all(x <= y for a, b, x, y in pairs if a.encode() < b.encode())


FILES = st.lists(
    st.tuples(st.integers(0, 500), st.sampled_from(["d", "e"]), st.sampled_from([0, 0, 0, 3])),
    max_size=30,
)


@pytest.mark.spec("F1")
@settings(max_examples=60, deadline=None)
@given(files=FILES, cap=st.integers(400, 2000), small_files=st.integers(1, 6))
def test_property_a_plan_packs_as_a_compaction_does(
    files: list[tuple[int, str, int]], cap: int, small_files: int
) -> None:
    policy = Policy(target_file_bytes=400, small_files=small_files, max_job_bytes=cap)
    with tempfile.TemporaryDirectory() as folder:
        log = MadeUpLog(Path(folder) / "t")
        order = list(enumerate(files))
        random.Random(len(files)).shuffle(order)
        log.commit([added(f"{n}.parquet", size, day, None, None, d) for n, (size, day, d) in order])
        found = plan(str(log.root), policy, now_s=NOW_S)
    jobs = [one for one in found.actions if one.kind == "compact"]
    for day in ("d", "e"):
        mine = [
            SourceFile(f"{n}.parquet", size, 10 - d, d, {"day": day})
            for n, (size, of, d) in order
            if of == day
        ]
        due = sum(one.size_bytes < 100 for one in mine) > small_files
        wanted = bins([one for one in mine if due or one.deleted], 400)
        packed = [g for job in jobs if job.partition == {"day": day} for g in job.groups]
        assert packed == [
            tuple(f.path for f in one.files) for one in wanted if one.size_bytes <= cap
        ]
    sizes = {f"{n}.parquet": size for n, (size, _, _) in order}
    for job in jobs:
        paths = [path for group in job.groups for path in group]
        assert len(paths) == len(set(paths)) == job.price.files_before
        assert job.price.files_after == len(job.groups)
        assert job.price.bytes_read == sum(sizes[path] for path in paths) <= cap
        assert job.price.bytes_written <= job.price.bytes_read
