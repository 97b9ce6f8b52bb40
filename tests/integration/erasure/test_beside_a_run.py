"""A person is erased by the command beside a run: a real broker, a real cluster, all layers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.harness.broker import LiveBroker
from tests.harness.cluster import ROOT, LiveCluster
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import Bench, MakeBench

PERSON = "person-4711"
PATIENCE_S = 900.0
TABLES = {
    "silver": {
        "orders": {
            "from": "bronze.orders",
            "mode": "upsert",
            "keys": ["id"],
            "sequence_by": "n",
            "quality": [{"rule": "range", "column": "n", "min": 0, "on_failure": "quarantine"}],
        }
    },
    "gold": {
        "customers": {
            "from": "silver.orders",
            "mode": "scd2",
            "keys": ["customer_id"],
            "track": ["segment"],
            "sequence_by": "at",
        },
        "sales": {
            "mode": "aggregate",
            "sql": "SELECT segment, count(*) AS orders FROM silver.orders GROUP BY segment",
        },
    },
}
SCHEMA = {
    "id": "long",
    "customer_id": "string",
    "segment": "string",
    "n": "long",
    "at": "timestamp",
}


def values(first: int, people: tuple[str, ...]) -> list[bytes]:
    found = []
    for at in range(first, first + 60):
        one: dict[str, Any] = {
            "id": at,
            "customer_id": people[at % len(people)],
            "segment": "ab"[at % 2],
            "n": -1 if at % 10 == 9 else at,
            "at": f"2026-01-31T12:{at % 60:02d}:00Z",
        }
        text = json.dumps(one)
        found.append((text[:-2] if at % 12 == 10 else text).encode())
    return found


def drain(bench: Bench) -> None:
    bench.start("--available-now").ends_with(0, PATIENCE_S)


def holding(lake: Path) -> list[str]:
    found = []
    for path in sorted(lake.rglob("*.parquet")):
        if "_delta_log" not in path.parts:
            with suppress(OSError, pa.ArrowException), pq.ParquetFile(path) as parquet:
                if PERSON in str(parquet.read().to_pylist()):
                    found.append(str(path.relative_to(lake)))
    return found


def command(bench: Bench, cluster: LiveCluster, *arguments: str) -> dict[str, Any]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "raylake", "erase", str(bench.file), "--where",
         f"customer_id = '{PERSON}'", "-o", "json", *arguments],
        env={**inherited, **cluster.environment, "PYTHONPATH": str(ROOT)},
        cwd=bench.folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("{"), (done.stdout, done.stderr[-3000:])
    said: dict[str, Any] = json.loads(done.stdout)["erasure"]
    return said


@pytest.mark.long
@pytest.mark.spec("F4", "F1")
def test_a_person_is_erased_beside_a_run_and_after_it(
    make_bench: MakeBench, broker: LiveBroker, ray_cluster: LiveCluster
) -> None:
    bench = make_bench()
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    broker.create_named_topic(topic, 1)
    bench.write(
        {"orders": {"topics": [topic], "schema": SCHEMA, "unknown_fields": "rescue"}}, **TABLES
    )

    def produce(records: list[bytes]) -> None:
        producer = broker.producer(acks="all")
        for one in records:
            producer.send(topic, value=one)
        producer.flush()
        producer.close()

    produce(values(0, ("ann", PERSON, "bob")))
    run = bench.start()
    until(
        lambda: len({one.split("/")[0] for one in holding(bench.lake)}) == 5,
        "the person is in all layers",
        PATIENCE_S,
    )
    planned = command(bench, ray_cluster)
    assert planned["dry_run"]
    done = command(bench, ray_cluster, "--run")
    assert done["complete"]
    assert done["rows"] == planned["rows"] > 20
    assert holding(bench.lake) == []
    logs = command(bench, ray_cluster, "--run", "--and-logs")
    assert all(of["log_files_left"] == 0 for of in logs["tables"].values())
    produce(values(60, ("ann", "bob")))
    bench.until_accounted(orders=120)
    run.signal(signal.SIGTERM)
    run.ends_with(0, PATIENCE_S)
    account = bench.verify()
    assert account.totals.dropped == done["tables"]["bronze.orders"]["rows"]
    # Another one, by the command alone: nothing runs.
    bench.verify(level="data")
    produce(values(120, ("ann", PERSON)))
    drain(bench)
    assert holding(bench.lake)
    assert command(bench, ray_cluster, "--run")["complete"]
    assert holding(bench.lake) == []
    bench.verify()
