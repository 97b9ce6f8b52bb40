"""Ingestion at a steady rate, merges, vacuums and two readers: with upkeep beside it, and without.

Both runs have the same load: a producer, a merge now and then, a vacuum now and then with a short
retention, a reader of one pinned old version and one that reads what was appended; the same records
go into a second table. With upkeep (``maintenance``) small files of the second are compacted
meanwhile, and a column of the first is kept in Z-order. What counts: no append and no merge fails,
ingestion keeps its rate, live files stay few, commits stay as quick as they were, and the readers
see what they should.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bed
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable

import raylake
from raylake.errors import RayLakeError
from raylake.maintenance.history import History
from raylake.tables.errors import ChangesUnavailable

WANTED = {"compact": 10, "zorder": 2, "vacuum": 2, "merge": 10}
"""So much has to take place in a full run."""
KEPT = 0.95
FLAT = 1.5
"""Commits of the last third may take so many times as long as those of the first."""
TARGET_BYTES = 128 * 2**20
RECENT_S = 600.0
"""Files that came within this time may still be small."""
TABLE = "bronze.orders"
UNSORTED = "unsorted"
"""A table of the same records without a Z-order."""
TOKEN = secrets.token_hex(16)
"""Of both clusters: Ray reads it once a process."""


@dataclass(slots=True)
class Seen:
    """What was seen while it ran.

    Attributes:
        done: How often each thing was done.
        failed: What went wrong.
        live: Live files, at each look.
        commit_s: Seconds that a commit took on average since the look before.
    """

    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    commit_s: list[float] = field(default_factory=list)


class Beside:
    """Something that is done again and again beside ingestion, until told to stop.

    Args:
        name: What it is called in the figures.
        step: Does it once.
        every_s: Seconds from one time to the next.
        seen: Takes what came of it.
    """

    def __init__(self, name: str, step: Callable[[], None], every_s: float, seen: Seen) -> None:
        self._name = name
        self._step = step
        self._every_s = every_s
        self._seen = seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        self._thread.start()

    def end(self) -> None:
        """Stop, after what is under way."""
        self._stop.set()
        self._thread.join(180)
        if self._thread.is_alive():
            self._seen.failed.append(f"{self._name}: does not end")

    def _run(self) -> None:
        next_s = time.monotonic() + self._every_s / 2
        while not self._stop.wait(max(0.0, next_s - time.monotonic())):
            next_s += self._every_s
            try:
                self._step()
                self._seen.done[self._name] += 1
            except (RayLakeError, OSError, ValueError, AssertionError) as error:
                self._seen.failed.append(f"{self._name}: {type(error).__name__}: {error}")


class Load:
    """What goes on in the table beside ingestion.

    Args:
        table: The table, on the run's cluster.
        seconds: How long the run is.
        seen: Takes what came of it.
    """

    def __init__(self, table: Any, seconds: float, seen: Seen) -> None:
        self._table = table
        self._seconds = seconds
        self._choose = random.Random(1)
        # Joins the cluster before several threads would.
        table.vacuum(dry_run=True)
        self._pinned = table.pin(datetime.now(UTC) + timedelta(days=1), name="bench").version
        self._rows = self._checked()
        self._reader = table.reader("bench", start="latest")
        self._reader.read_new().commit()
        self._before = self._count(self._reader.version)
        self.appended = 0
        self._works = [
            Beside("merge", self._merge, seconds / 12, seen),
            Beside("vacuum", self._vacuum, seconds / 4, seen),
            Beside("old reader", self._old, max(5.0, seconds / 20), seen),
            Beside("new reader", self._new, max(2.0, seconds / 60), seen),
        ]

    def end(self, seen: Seen) -> None:
        """Stop; the new reader has seen each row that came, once."""
        for one in self._works:
            one.end()
        self._new()
        came = self._count(self._reader.version) - self._before
        if came != self.appended:
            seen.failed.append(f"new reader: {self.appended} rows of {came}")

    def _count(self, version: int) -> int:
        adds = DeltaTable(self._table.address, version=version).get_add_actions()
        return sum(adds.column("num_records").to_pylist())

    def _merge(self) -> None:
        """Rows of one file, found by their coordinates, get another segment."""
        address = self._table.address
        for _ in range(5):
            file = self._choose.choice(DeltaTable(address).file_uris())
            try:
                with pq.ParquetFile(file) as opened:
                    first = next(opened.iter_batches(1000, columns=["_partition", "_offset"]))
                break
            except FileNotFoundError:
                continue  # a vacuum took it since
        names = [f"merged {time.time():.0f}"] * len(first)
        rows = first.append_column("segment", names)
        done = self._table.merge(
            rows, ["_partition", "_offset"], columns=["segment"], insert_when="false"
        )
        assert done.rows.updated == len(first), f"{done.rows.updated} of {len(first)} rows"

    def _vacuum(self) -> None:
        self._table.vacuum(self._seconds / 6 / 3600, force=True)

    def _old(self) -> None:
        assert self._checked() == self._rows, "an old version has other rows"

    def _checked(self) -> tuple[int, int]:
        rows = self._table.read(columns=["_offset"], version=self._pinned).to_arrow()
        return len(rows), sum(rows["_offset"].to_numpy().tolist())

    def _new(self) -> None:
        try:
            self._take(None)
        except ChangesUnavailable:
            # A merge is among them, which brings no new rows: it alone is passed over.
            while not self._reader.read_new(1).empty:
                try:
                    self._take(1)
                except ChangesUnavailable:
                    self._reader.read_new(1).commit()

    def _take(self, versions: int | None) -> None:
        with self._reader.read_new(versions) as new:
            found = sum(len(one) for one in new.to_batches())
        self.appended += found


def run(options: Any, *, tended: bool) -> tuple[dict[str, float], Seen]:
    """One run; its figures and what was seen."""
    with bed.bed("beside", options) as made:
        topic = made.topic()
        file = made.pipeline(topic, commit_interval=options.commit_interval)
        policy = {"enabled": tended, "look_every": "5s", "budget": {"cpu": "25%"}}
        policy |= {"zorder": {TABLE: options.zorder.split(",")}, "zorder_depth": 3}
        document = {**yaml.safe_load(file.read_text()), "maintenance": policy}
        # What is kept in Z-order is never compacted alone.
        document["bronze"][UNSORTED] = deepcopy(document["bronze"][TABLE.removeprefix("bronze.")])
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        address, variables = cluster(made)
        job = made.ingest(**variables, RAY_ADDRESS=address)
        script = Path(__file__).with_name("pace.py")
        words = [sys.executable, str(script), "--bootstrap", made.bootstrap, "--topic", topic]
        words += ["--rate", str(options.rate), "--seconds", str(options.seconds + 600)]
        producer = made.start(words, "pace.log")
        bed.until(lambda: rows(made) > 0, 240, "the first rows")
        table = raylake.connect(made.lake, address).table(TABLE)
        seen = Seen()
        try:
            found = under_load(made, table, options.seconds, job, seen)
        finally:
            disconnect()  # a process that has joined a cluster does not outlive it
        bed.end(producer)
        found |= files(made, seen) | third(seen) | actions(made, seen)
        if (code := bed.end(job)) != 0:
            seen.failed.append(f"the run ended with {code}: {made.tail('ingest.log')[-500:]}")
        if not made.verified():
            seen.failed.append("the account does not balance")
        return found, seen


def under_load(made: bed.Bed, table: Any, seconds: float, job: Any, seen: Seen) -> dict[str, float]:
    """The time that counts, and its figures."""
    load = Load(table, seconds, seen)
    before, began = made.status()["tables"][TABLE], time.monotonic()
    watch(made, seen, began + seconds, job)
    after, passed_s = made.status()["tables"][TABLE], time.monotonic() - began
    load.end(seen)
    return {
        "per_s": (sum(after["totals"].values()) - sum(before["totals"].values())) / passed_s,
        "commits_per_s": (after["commits"] - before["commits"]) / passed_s,
        "refused": float(after["units_refused"] - before["units_refused"]),
        "read_new": float(load.appended),
        **{f"{name}s": float(count) for name, count in seen.done.items()},
    }


def watch(made: bed.Bed, seen: Seen, until_s: float, job: Any) -> None:
    """Look at the run until its time is over."""
    before = (0.0, 0.0)
    while time.monotonic() < until_s:
        time.sleep(2.0)
        if job.poll() is not None:
            raise bed.BenchFailed(f"the run has ended with {job.returncode}")
        seen.live.append(len(DeltaTable(str(made.table)).file_uris()))
        metrics = made.status().get("metrics", {})
        spent, count = (
            sum(v for k, v in metrics.items() if k.startswith(f"raylake_commit_seconds_{what}"))
            for what in ("sum", "count")
        )
        if count > before[1]:
            seen.commit_s.append((spent - before[0]) / (count - before[1]))
            before = spent, count


def cluster(made: bed.Bed) -> tuple[str, dict[str, str]]:
    """A head node that runs: its address, and the variables with which it is joined."""
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
    folder = made.folder / "r"
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"]
    words += ["--node-ip-address=127.0.0.1", "--num-cpus=8", f"--temp-dir={folder}"]
    words += ["--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"]
    words += ["--object-store-memory=150000000"]
    head = made.start(words, "head.log", **variables)
    current, said = folder / "ray_current_cluster", made.folder / "head.log"

    def runs() -> bool:
        if head.poll() is not None:
            raise bed.BenchFailed(f"no cluster: {made.tail('head.log')}")
        return current.exists() and "runtime started" in said.read_text()

    try:
        bed.until(runs, 240, "a cluster")
    except bed.BenchFailed:
        print(made.tail("head.log"))
        raise
    os.environ |= variables
    return current.read_text().strip(), variables


def disconnect() -> None:
    """Leave the cluster of this run: the next one has its own."""
    import ray

    ray.shutdown()


def rows(made: bed.Bed) -> int:
    """Offsets that the table accounts for."""
    shown = made.status().get("tables", {}).get(TABLE, {})
    return sum((shown.get("totals") or {}).values())


def files(made: bed.Bed, seen: Seen) -> dict[str, float]:
    """Live files, and how many there may be: twice the fewest, and those that came just now."""
    table = DeltaTable(str(made.table))
    adds = table.get_add_actions(flatten=True)
    sizes = adds.column("size_bytes").to_pylist()
    times = adds.column("modification_time").to_pylist()
    since_ms = (time.time() - RECENT_S) * 1000
    recent = sum(_ms(one) >= since_ms for one in times)
    allowed = 2 * max(1.0, sum(sizes) / TARGET_BYTES) + recent
    return {"live": float(len(sizes)), "live_allowed": allowed, "live_most": float(max(seen.live))}


def _ms(at: Any) -> float:
    return float(at.timestamp() * 1000) if isinstance(at, datetime) else float(at)


def third(seen: Seen) -> dict[str, float]:
    """How long a commit took, in the first third and in the last one, ms."""
    size = max(1, len(seen.commit_s) // 3)
    first, last = seen.commit_s[:size], seen.commit_s[-size:]
    return {
        "commit_first_ms": 1000 * statistics.median(first),
        "commit_last_ms": 1000 * statistics.median(last),
    }


def actions(made: bed.Bed, seen: Seen) -> dict[str, float]:
    """What upkeep did, by action."""
    lines = History(str(made.lake)).read().to_pylist()
    for one in lines:
        if one["outcome"] == "failed":
            seen.failed.append(f"{one['action']}: {one['note']}")
        elif one["outcome"] == "done":
            seen.done[one["action"]] += 1
    told = Counter(one["action"] for one in lines if one["outcome"] == "done")
    rewritten = sum(one["bytes_written"] for one in lines)
    figures = {f"upkeep {kind}": float(count) for kind, count in told.items()}
    return {**figures, "rewritten_mib": rewritten / 2**20}


def main() -> int:
    """Print both; returns the exit code."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rate", type=int, default=50_000, help="records/s")
        parser.add_argument("--seconds", type=float, default=600.0)
        parser.add_argument("--commit-interval", default="500ms")
        parser.add_argument("--zorder", default="customer_id", help="columns of the Z-order")
        parser.add_argument(
            "--short", action="store_true", help="so few seconds that the counts do not matter"
        )

    options = bed.options(__doc__, add)
    (alone, before), (beside, after) = run(options, tended=False), run(options, tended=True)
    names = sorted({*alone, *beside})
    bed.table([[n, alone.get(n, "-"), beside.get(n, "-")] for n in names], ["", "without", "with"])
    kept, problems = beside["per_s"] / alone["per_s"], [*before.failed, *after.failed]
    for said, count in Counter(one[:300] for one in problems).most_common(10):
        print(f"{count} times: {said}")
    few = [name for name, count in WANTED.items() if after.done[name] < count]
    slower = beside["commit_last_ms"] / beside["commit_first_ms"]
    good = kept >= KEPT and not beside["refused"] and not problems and slower <= FLAT
    good = good and beside["live"] <= beside["live_allowed"] and (options.short or not few)
    bed.closing(
        "beside_ingestion",
        kept=kept,
        rate=options.rate,
        seconds=options.seconds,
        failed=len(problems),
        too_few=",".join(few) or "none",
        commits_slower=slower,
        **{name: after.done[name] for name in WANTED},
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
