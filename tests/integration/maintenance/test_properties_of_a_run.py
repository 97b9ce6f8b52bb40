"""What holds of a run of upkeep, whatever was written before: rows, statistics, metrics, files."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.client.upkeep import ByHand
from raylake.delta.log_reader import LogReader
from raylake.maintenance.figures import BYTES, DEBT, JOBS, SECONDS, Figures
from raylake.maintenance.plan import plan
from raylake.maintenance.policy import Policy
from raylake.maintenance.subjects import Subject
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Delete, Upsert
from raylake.telemetry.metrics import MemoryMetrics

SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("n", pa.float64())])
ROW = st.fixed_dictionaries(
    {
        "id": st.integers(0, 30),
        "part": st.sampled_from(["x", "y"]),
        "n": st.none() | st.floats(allow_nan=True) | st.integers(-9, 9).map(float),
    }
)
STEP = st.one_of(
    st.lists(ROW, min_size=1, max_size=8).map(
        lambda rows: Append(pa.Table.from_pylist(rows, schema=SCHEMA))
    ),
    st.lists(ROW, min_size=1, max_size=4, unique_by=lambda row: row["id"]).map(
        lambda rows: Upsert(pa.Table.from_pylist(rows, schema=SCHEMA), ("id",))
    ),
    st.integers(0, 30).map(lambda one: Delete(f"id = {one}")),
)
POLICY = Policy(small_files=1, zorder=("id", "n"), zorder_depth=1.5, checkpoint_commits=4)


def rows(table: str) -> Counter[str]:
    return Counter(map(str, DeltaTable(table).to_pyarrow_table().to_pylist()))


def added(table: str, version: int) -> list[dict[str, Any]]:
    return list(LogReader(table).commit(version).adds())


def check_statistics(table: str, add: dict[str, Any]) -> None:
    """What the log says of a file, by the file's own rows."""
    said = json.loads(add["stats"])
    data = pq.read_table(Path(table) / add["path"], partitioning=None)
    assert said["numRecords"] == data.num_rows
    for name in ("id", "n"):
        values = data.column(name).to_pylist()
        there = [one for one in values if one is not None]
        assert said["nullCount"][name] == len(values) - len(there)
        bounds = said["minValues"].get(name), said["maxValues"].get(name)
        if any(math.isnan(one) for one in there):
            assert bounds == (None, None)
        elif there and all(map(math.isfinite, there)):
            assert bounds == (min(there), max(there))


@pytest.mark.spec("F1")
@settings(max_examples=15, deadline=None)
@given(steps=st.lists(STEP, min_size=4, max_size=10), partitioned=st.booleans())
def test_property_15_29_38_a_run_keeps_rows_and_tells_statistics_and_metrics(
    steps: list[Any], partitioned: bool
) -> None:
    engine = DeltaRsEngine()
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "t")
        # Nothing has statistics until upkeep gives it some.
        named = {"delta.dataSkippingStatsColumns": "part"} if not partitioned else {}
        engine.execute(table, Create(SCHEMA, ("part",) if partitioned else (), named))
        for step in steps:
            engine.execute(table, step)
        before, version = rows(table), DeltaTable(table).version()
        metrics = MemoryMetrics()
        figures = Figures(metrics, "p")
        figures.planned("silver.t", plan(table, POLICY))
        found = ByHand(told=figures.ended).run([Subject("silver.t", table, POLICY, None)])
        assert found.failures == {}
        assert {one.ending for one in found.outcomes} <= {"done", "nothing"}
        assert rows(table) == before
        made = [one for one in found.outcomes if one.ending == "done" and one.version is not None]
        rewrites = [one for one in made if one.action.kind in ("compact", "zorder")]
        new = [add for one in rewrites for add in added(table, one.version or 0)]
        for add in new:
            check_statistics(table, add)
        labels = {"pipeline": "p", "table": "silver.t"}
        written = metrics.value(BYTES, kind="rewritten", **labels)
        assert written == sum(add["size"] for add in new)
        for kind in ("compact", "zorder", "checkpoint"):
            done = sum(one.action.kind == kind and one.ending == "done" for one in found.outcomes)
            assert metrics.value(JOBS, action=kind, outcome="done", **labels) == done
        assert f"{DEBT}" in str(metrics.snapshot())
        assert (SECONDS in str(metrics.snapshot())) == bool(found.outcomes)
        # What was read before reads as it did, and there is nothing left to do twice.
        assert DeltaTable(table).version() >= version
        again = ByHand().run([Subject("silver.t", table, POLICY, None)])
        assert rows(table) == before
        for _ in range(3):
            if not again.outcomes:
                break
            again = ByHand().run([Subject("silver.t", table, POLICY, None)])
        assert again.outcomes == (), "a run that finds work for ever"
