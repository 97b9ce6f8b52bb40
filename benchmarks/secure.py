"""Throughput over TLS with SCRAM against plain text: the same topic, broker and job.

Runs go by turns, each into a new table, over the listeners of one broker: plain text, SASL_SSL with
SCRAM-SHA-512, and TLS with a client's certificate. Measured from the first commit to the last. The
broker encrypts on the same cores, so its CPU seconds stand beside those of the job.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
import yaml
from bed import Bed, BenchFailed, bed, closing, options, table
from runs import Run, ingest

from raylake.kafka.dev import BrokerInfo, DevBroker

AIM = 0.8
WAYS: dict[str, str | None] = {"plain": None, "scram": "SCRAM-SHA-512", "mtls": None}
TITLES = {
    "plain": "plain text",
    "scram": "TLS, SCRAM-SHA-512",
    "mtls": "TLS, client's certificate",
}


@dataclass(frozen=True, slots=True)
class Timed:
    """A run, and what the broker spent meanwhile."""

    run: Run
    broker_cpu_s: float


def main() -> int:
    chosen = options(__doc__, _arguments)
    dev = DevBroker(instance=f"bench-secure-{os.getpid()}", secure=True)
    try:
        with bed("secure", chosen, broker=False) as made:
            info = dev.up()
            made.bootstrap = info.bootstrap
            topic = made.topic()
            made.load(topic, chosen.count, compression=chosen.compression)
            timed: dict[str, list[Timed]] = {name: [] for name in WAYS}
            for number in range(chosen.rounds + 1):
                for name in WAYS:
                    _point(made, topic, name, dev, info)
                    found = _run(made, chosen.count, info)
                    # The first round warms up.
                    if number:
                        timed[name].append(found)
                print(f"round {number} of {chosen.rounds} done", flush=True)
            return _report(timed)
    finally:
        dev.down(wipe=True)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", default="none", help="none, lz4, zstd, …")


def _point(made: Bed, topic: str, name: str, dev: DevBroker, info: BrokerInfo) -> None:
    """Write the pipeline file for one way in."""
    path = made.pipeline(topic)
    if name == "plain":
        return
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    document["kafka"] = {
        "bootstrap": info.address("SASL_SSL" if WAYS[name] else "SSL"),
        "security": dev.security.snippet(WAYS[name]),
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def _run(made: Bed, count: int, info: BrokerInfo) -> Timed:
    broker = psutil.Process(info.pid)
    if not broker.is_running():
        raise BenchFailed("the broker has gone")
    before = sum(broker.cpu_times()[:2])
    run = ingest(made, count)
    return Timed(run, sum(broker.cpu_times()[:2]) - before)


def _report(timed: dict[str, list[Timed]]) -> int:
    wall = {name: median(one.run.steady.per_s for one in found) for name, found in timed.items()}
    cpu = {name: median(one.run.steady.per_cpu_s for one in found) for name, found in timed.items()}
    broker = {name: median(one.broker_cpu_s for one in found) for name, found in timed.items()}
    share = {name: value / wall["plain"] for name, value in wall.items()}
    rows = []
    for name in timed:
        job = [TITLES[name], int(wall[name]), share[name], int(cpu[name]), cpu[name] / cpu["plain"]]
        rows.append([*job, broker[name]])
    head = ["", "records/s", "share", "records/CPU-s", "share", "broker's CPU s"]
    table(rows, head)
    closing(
        "secure",
        records=timed["plain"][0].run.whole.records,
        **{f"{name}_records_per_s": int(value) for name, value in wall.items()},
        **{f"{name}_share": share[name] for name in ("scram", "mtls")},
        **{f"{name}_cpu_share": cpu[name] / cpu["plain"] for name in ("scram", "mtls")},
        aim=AIM,
    )
    return 0 if share["scram"] >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
