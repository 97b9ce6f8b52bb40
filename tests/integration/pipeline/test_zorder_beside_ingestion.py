"""A pipeline whose file names columns of a Z-order: its files can be skipped by them."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta.stats import STATS_COLUMNS
from raylake.maintenance.history import History
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Read
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import produce

ROWS = 700
PAYLOAD_BYTES = 100_000
"""Of a record: a Z-order begins another file after 32 MiB of rows."""


def spans(table: Path, column: str) -> dict[str, tuple[Any, Any]]:
    """Live files with the least and the greatest value of a column, as the log has them."""
    adds = pa.table(DeltaTable(table).get_add_actions(flatten=True))
    if f"min.{column}" not in adds.schema.names:
        return {}
    found = zip(
        *(adds.column(f"{end}.{column}").to_pylist() for end in ("min", "max")), strict=True
    )
    paths = adds.column("path").to_pylist()
    return {path: ends for path, ends in zip(paths, found, strict=True) if ends[0] is not None}


def opened(table: Path, column: str, low: Any, high: Any) -> int:
    """In how many files a range query has to look."""
    return sum(least <= high and low <= most for least, most in spans(table, column).values())


def done(bench: Bench) -> list[dict[str, Any]]:
    rows = History(str(bench.lake)).read().to_pylist()
    assert [one for one in rows if one["outcome"] == "failed"] == []
    return [one for one in rows if one["outcome"] == "done" and one["action"] == "zorder"]


def rows_between(table: Path, low: int, high: int) -> list[tuple[int, str]]:
    asked = Read(where=f"n BETWEEN {low} AND {high}", columns=("n", "who"))
    found = DeltaRsEngine().read(str(table), asked).read_all().to_pylist()
    return sorted((row["n"], row["who"]) for row in found)


@pytest.mark.long
@pytest.mark.spec("F1", "F3")
@pytest.mark.timeout(600)
def test_property_13_a_pipelines_files_can_be_skipped_by_its_z_order(
    make_bench: MakeBench, broker: Any
) -> None:
    bench, topic = make_bench(), broker.create_topic()
    table = bench.table("events")
    compact = {"target_file_size": "64KiB", "small_files": 1000}
    upkeep = {"look_every": "1s", "compact": compact, "zorder": {"bronze.events": ["n", "who"]}}
    # The columns are not there yet when the table is made.
    files = {"commit_interval": "100ms", "max_batch_bytes": "4MiB"}
    orders = {"events": {"topics": [topic], "schema": {"id": "long"}, **files}}
    bench.write(orders, maintenance={**upkeep, "enabled": False})
    rng = random.Random(9)
    numbers = rng.sample(range(ROWS), ROWS)
    text = base64.b64encode(rng.randbytes(PAYLOAD_BYTES * 3 // 4)).decode()
    records = [{"id": 1, "n": n, "who": f"w{n:04}", "text": text} for n in numbers]
    produce(broker, topic, [{"id": 0}, *records])
    bench.drain()
    named = DeltaTable(table).metadata().configuration[STATS_COLUMNS]
    assert named.endswith("_timestamp,n,who"), named
    assert len(spans(table, "n")) > 8
    assert len(spans(table, "who")) == len(spans(table, "n"))
    low, high = 300, 320
    wide = opened(table, "n", low, high)
    assert wide > 8, "records came in any order"
    before = rows_between(table, low, high)
    assert before == [(n, f"w{n:04}") for n in range(low, high + 1)]
    bench.write(orders, maintenance={**upkeep, "enabled": True})
    bench.start()
    bench.until(lambda: done(bench), "it is laid along the curve")
    bench.runs[-1].stop()
    assert len(spans(table, "n")) > 2
    assert opened(table, "n", low, high) < wide / 2
    assert opened(table, "n", low, high) < len(spans(table, "n"))
    assert opened(table, "who", "w0300", "w0320") < len(spans(table, "n"))
    assert rows_between(table, low, high) == before
    bench.verify("events")
