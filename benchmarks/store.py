"""Throughput into an S3-compatible store against the local disk: the same topic, broker and job.

Runs go by turns, each into a new lake. Measured from the first data commit to the last, by the
commits' own times. The store is a process on the same cores, so its CPU seconds stand beside.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psutil
import yaml
from bed import Bed, BenchFailed, bed, closing, options, table

from raylake.config import load
from raylake.delta import log_files
from raylake.storage.access import use_stores
from raylake.storage.dev import DevStore, StoreInfo
from raylake.storage.place import delete_tree, place

AIM = 0.8
LIMIT_S = 600.0
KEY_ENV = "BENCH_STORE_KEY"


@dataclass(frozen=True, slots=True)
class Timed:
    """A run: records from its first data commit on, seconds, and the store's CPU seconds."""

    records: int
    seconds: float
    store_cpu_s: float

    @property
    def per_s(self) -> float:
        """Records per second."""
        return self.records / self.seconds


def main() -> int:
    chosen = options(__doc__, _arguments)
    dev = DevStore(instance=f"bench-{os.getpid()}")
    try:
        with bed("store", chosen) as made:
            info = dev.up()
            os.environ[KEY_ENV] = info.secret_access_key
            topic = made.topic()
            made.load(topic, chosen.count)
            timed: dict[str, list[Timed]] = {"disk": [], "store": []}
            for number in range(chosen.rounds + 1):
                for name, found in timed.items():
                    one = _run(made, topic, name, chosen.count, info)
                    # The first round warms up.
                    if number:
                        found.append(one)
                print(f"round {number} of {chosen.rounds} done", flush=True)
            return _report(timed)
    finally:
        dev.down()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=6_000_000)
    parser.add_argument("--rounds", type=int, default=3)


def _run(made: Bed, topic: str, name: str, count: int, info: StoreInfo) -> Timed:
    with _pointed(made, topic, name, info) as root:
        server = psutil.Process(info.pid)
        before = sum(server.cpu_times()[:2])
        if made.ingest("--available-now").wait(LIMIT_S) != 0:
            raise BenchFailed(made.tail("ingest.log"))
        spent_s = sum(server.cpu_times()[:2]) - before
        commits = list(_data_commits(root))
    rows = sum(rows for _, rows in commits)
    if rows != count:
        raise BenchFailed(f"{name}: {rows:,} rows of {count:,}")
    (first_s, first_rows), (last_s, _) = commits[0], commits[-1]
    return Timed(rows - first_rows, last_s - first_s, spent_s)


@contextmanager
def _pointed(made: Bed, topic: str, name: str, info: StoreInfo) -> Iterator[str]:
    """Write the pipeline file for one lake, which is emptied afterwards; gives the table."""
    lake = str(made.lake) if name == "disk" else f"s3://{info.bucket}/bench"
    access = {
        "endpoint": info.endpoint,
        "allow_http": True,
        "access_key_id": info.access_key_id,
        "secret_access_key": f"env:{KEY_ENV}",
    }
    path = made.pipeline(topic)
    document = yaml.safe_load(path.read_text())
    document |= {"lake": lake, "stores": {f"s3://{info.bucket}": access}}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    use_stores(load(path).config.stores)
    yield f"{lake}/bronze/orders"
    delete_tree(place(lake))


def _data_commits(root: str) -> Iterator[tuple[float, int]]:
    """When each data commit was made (seconds since the epoch), and its rows."""
    for version in log_files.commit_versions(place(root)):
        ours = log_files.our_metadata(log_files.read_commit(place(root), version) or []) or {}
        if ours.get("kind") == "data":
            yield float(ours["at_s"]), sum(int(one["rows"]) for one in ours["ranges"])


def _report(timed: dict[str, list[Timed]]) -> int:
    rates = {name: median(one.per_s for one in found) for name, found in timed.items()}
    share = rates["store"] / rates["disk"]
    spent_s = median(one.store_cpu_s for one in timed["store"])
    rows = [["local disk", int(rates["disk"]), 1.0, 0.0]]
    rows.append(["S3-compatible store", int(rates["store"]), share, spent_s])
    table(rows, ["", "records/s", "share", "store's CPU s"])
    closing(
        "store",
        records=timed["disk"][0].records,
        disk_records_per_s=int(rates["disk"]),
        store_records_per_s=int(rates["store"]),
        store_share=share,
        aim=AIM,
    )
    return 0 if share >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
