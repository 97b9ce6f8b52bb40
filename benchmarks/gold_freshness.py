"""Kafka to gold: how old an event is when a fresh reader first finds it in the aggregate.

Orders and their changes are produced at a steady rate (``order_changes.py``). Bronze holds them as
they came, silver the newest row of each order with its amount as a decimal and a rule, gold a row
for each day and shard with the number of orders, the sum of their versions and their revenue. As
each event raises that sum by one, a reader that opens gold anew some ten times a second knows which
events are in it. Ours, and Structured Streaming with trigger 0 (``gold_freshness_spark.py``), one
after the other, each with a topic of its own and after a warm-up at the same rate; at the end all
events must be there, and both gold tables the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bed import PIPELINE, ROOT, Bed, BenchFailed, bed, closing, end, options, table, until
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from spark_peer import environment

LOOK_EVERY_S = 0.1
AIM_SHARE = 0.5
COMMIT_INTERVAL = "500ms"
SHARDS = 4
EVENT = {
    "order_id": "long",
    "shard": "long",
    "customer_id": "string",
    "version": "long",
    "amount": "string",
    "ordered_at": "timestamp",
}
GOLD = """
SELECT CAST(ordered_at AS DATE) AS day, shard, count(*) AS orders, sum(version) AS changes,
  sum(amount) AS revenue
FROM silver.orders GROUP BY day, shard
"""
Sums = Mapping[tuple[Any, int], tuple[Any, ...]]
"""Orders, changes and revenue by day and shard."""


@dataclass(slots=True)
class Seen:
    """What a reader saw of the gold table.

    Attributes:
        ages_s: How old each event was when it was first seen.
        last: The table at the end.
    """

    ages_s: list[np.ndarray] = field(default_factory=list)
    last: Sums = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        """A quantile over events, seconds."""
        return float(np.quantile(np.concatenate(self.ages_s), share))


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("goldfr", chosen) as made:
        found = {"ours": _ours(made, chosen)}
        if not chosen.alone:
            found["Spark"] = _spark(made, chosen)
        return _report(found, chosen.rate)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=20_000, help="events/s")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is looked at")
    parser.add_argument("--warm-up-s", type=float, default=30.0)
    parser.add_argument("--alone", action="store_true", help="without Spark")


def _pipeline(made: Bed, topic: str) -> None:
    document = {
        "pipeline": PIPELINE,
        "lake": str(made.lake),
        "kafka": {"bootstrap": made.bootstrap},
        "bronze": {
            "orders": {"topics": [topic], "schema": EVENT, "commit_interval": COMMIT_INTERVAL}
        },
        "silver": {
            "orders": {
                "from": "bronze.orders",
                "mode": "upsert",
                "keys": ["order_id"],
                "sequence_by": "version",
                "types": {"amount": "decimal(18,2)"},
                "not_null": ["customer_id", "amount"],
            }
        },
        "gold": {"daily": {"mode": "aggregate", "sql": GOLD, "partition_by": ["day"]}},
    }
    (made.folder / "bench.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def _ours(made: Bed, chosen: argparse.Namespace) -> Seen:
    topic = made.topic("ours", SHARDS)
    _pipeline(made, topic)
    job = made.ingest()
    until(lambda: made.status().get("state") == "running", 120, "the job runs")
    seen = _watch(made, chosen, topic, made.lake / "gold" / "daily")
    if end(job) != 0:
        raise BenchFailed(made.tail("ingest.log"))
    return seen


def _spark(made: Bed, chosen: argparse.Namespace) -> Seen:
    topic = made.topic("spark", SHARDS)
    folder = made.folder / "spark"
    command = [sys.executable, str(ROOT / "benchmarks" / "gold_freshness_spark.py")]
    with (made.folder / "spark.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, made.bootstrap, topic, str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=made.folder,
            env=environment(),
        )
        made.processes.append(process)
        assert process.stdout is not None
        if not any(line.startswith(b'{"answer"') for line in process.stdout):
            raise BenchFailed(made.tail("spark.log"))
        seen = _watch(made, chosen, topic, folder / "gold")
        end(process)
    return seen


def _watch(made: Bed, chosen: argparse.Namespace, topic: str, gold: Path) -> Seen:
    """Produce, and look until every event is in the gold table."""
    command = [sys.executable, str(ROOT / "benchmarks" / "order_changes.py"), "--topic", topic]
    command += ["--bootstrap", made.bootstrap, "--rate", str(chosen.rate)]
    command += ["--seconds", str(chosen.warm_up_s + chosen.seconds), "--shards", str(SHARDS)]
    moments, log = made.folder / f"{topic}.npz", f"pace-{topic}.log"
    began = time.time()
    pace = made.start([*command, "--moments", str(moments)], log)
    looks: list[tuple[float, list[int]]] = []
    deadline = began + chosen.warm_up_s + chosen.seconds + 180
    seen = Seen()
    while pace.poll() is None or sum(looks[-1][1]) < made.told(log)["records"]:
        if pace.poll():
            raise BenchFailed(made.tail(log))
        if time.time() > deadline:
            raise BenchFailed(f"{gold}: {looks[-1][1]} events a shard when it should be done")
        looked = time.time()
        seen.last = _gold(gold)
        counts = [0] * SHARDS
        for (_, shard), sums in seen.last.items():
            counts[shard] += sums[1]
        looks.append((time.time(), counts))
        time.sleep(max(0.0, looked + LOOK_EVERY_S - time.time()))
    told = made.told(log)
    if sum(looks[-1][1]) != told["records"]:
        raise BenchFailed(f"{looks[-1][1]} events are counted, {told['records']:,} were produced")
    print(
        f"{topic}: {told['records']:,} events, the generator at most {told['behind_s']:.2f} s "
        f"behind, {DeltaTable(gold).version():,} commits of gold"
    )
    with np.load(moments) as produced:
        for shard in range(SHARDS):
            times, before = produced[f"arr_{shard}"], 0
            for moment, counts in looks:
                new = times[before : counts[shard]]
                seen.ages_s.append(moment - new[new >= began + chosen.warm_up_s])
                before = max(before, counts[shard])
    return seen


def _gold(path: Path) -> Sums:
    try:
        # A fresh reader each time.
        rows = DeltaTable(path).to_pyarrow_table(
            columns=["day", "shard", "orders", "changes", "revenue"]
        )
    except TableNotFoundError:
        return {}
    return {
        (row["day"], row["shard"]): (row["orders"], row["changes"], row["revenue"])
        for row in rows.to_pylist()
    }


def _report(found: dict[str, Seen], rate: int) -> int:
    shares = (0.5, 0.95, 0.99)
    rows = [[k, *map(v.quantile, shares)] for k, v in found.items()]
    table(rows, ["seconds until in gold", "p50", "p95", "p99"])
    p50, p95, p99 = map(found["ours"].quantile, shares)
    more = {}
    if "Spark" in found:
        more = {"of_spark_p95": p95 / found["Spark"].quantile(0.95)}
        totals = [sum(one[1] for one in seen.last.values()) for seen in found.values()]
        print("events in gold:", *totals)
    closing("gold_freshness", rate=rate, p50_s=p50, p95_s=p95, p99_s=p99, **more)
    return int(more.get("of_spark_p95", 0) > AIM_SHARE)


if __name__ == "__main__":
    sys.exit(main())
