"""A run of the product over a topic that is full already, measured from outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from bed import PIPELINE, Bed, BenchFailed
from deltalake import DeltaTable
from tree import Tree

from raylake.delta import log_files

LIMIT_S = 1800.0
WORKERS = ("PartitionConsumer", "TableOwner")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a stretch of a run took, wall clock and CPU of the whole process tree.

    Attributes:
        user_s: What of the CPU seconds was not the kernel's; 0 where it was not looked at.
    """

    records: int
    seconds: float
    cpu_s: float
    user_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def per_cpu_s(self) -> float:
        """Records per CPU-second."""
        return self.records / self.cpu_s


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job.

    Attributes:
        window: From the first partition's admission to the last data commit; the consumers start
            in it.
        whole: From the command line to its end.
        steady: From the first data commit to the last one; the records of the others.
        workers: The same, CPU of consumers and owner alone.
        by_kind: CPU seconds of the whole by kind of process.
    """

    window: Figures
    whole: Figures
    steady: Figures
    workers: Figures
    by_kind: dict[str, float]

    @property
    def workers_cpu_s(self) -> float:
        """CPU seconds of consumers and owner, their start included."""
        return self.by_kind.get("PartitionConsumer", 0.0) + self.by_kind.get("TableOwner", 0.0)


def ingest(made: Bed, records: int, dead: int = 0, flags: Sequence[str] = ()) -> Run:
    """Run the pipeline file's job over what the topics hold, into a lake that is not there yet.

    Args:
        made: The bed, with its pipeline file written.
        records: How many records the topics hold.
        dead: How many of them must become dead letters.
        flags: More flags of the job.

    Raises:
        BenchFailed: It failed, or the tables hold other numbers.
    """
    shutil.rmtree(made.lake, ignore_errors=True)
    began = time.monotonic()
    job = made.ingest("--available-now", *flags)
    with Tree(job.pid) as tree, Tree(job.pid, user_only=True) as user:
        while job.poll() is None:
            if time.monotonic() > began + LIMIT_S:
                raise BenchFailed("the job takes too long")
            time.sleep(0.02)
        seconds = time.monotonic() - began
    if job.returncode != 0:
        raise BenchFailed(f"the job ended with {job.returncode}\n{made.tail('ingest.log')}")
    check("ours", made.table, records - dead)
    if dead:
        check("dead letters", made.dead_letters, dead)
    times = commit_times(made.table)
    first, end = min(times["data"]), max(times["data"])
    later = records - dead - rows_of_commit(made.table, first)
    steady, workers = (
        Figures(later, end - first, *(t.cpu_s(end, k) - t.cpu_s(first, k) for t in (tree, user)))
        for k in ((), WORKERS)
    )
    start = min(times["admit"])
    window = Figures(records, end - start, tree.cpu_s(end) - tree.cpu_s(start))
    whole = Figures(records, seconds, tree.total_s)
    return Run(window, whole, steady, workers, tree.by_kind())


def born(made: Bed, process: str) -> float:
    """When the first such process of a run opened its log file: the file's birth."""
    logs = made.lake / "_raylake" / "logs" / PIPELINE
    files = [str(path) for path in logs.glob(f"*/{process}*.jsonl")]
    told = subprocess.run(["stat", "-c", "%.W", *files], capture_output=True, text=True, check=True)
    return min(float(line) for line in told.stdout.split())


def commit_times(table: Path) -> dict[str, list[float]]:
    """When our commits were written (seconds since the epoch), by kind."""
    found: dict[str, list[float]] = {}
    for version in log_files.commit_versions(table):
        ours = log_files.our_metadata(log_files.read_commit(table, version) or [])
        if ours:
            at = log_files.commit_path(table, version).stat().st_mtime
            found.setdefault(str(ours["kind"]), []).append(at)
    return found


def rows_of_commit(table: Path, at: float) -> int:
    """Rows that the commit of this moment added."""
    for version in log_files.commit_versions(table):
        if log_files.commit_path(table, version).stat().st_mtime == at:
            adds = [
                one["add"] for one in log_files.read_commit(table, version) or [] if "add" in one
            ]
            return sum(json.loads(add["stats"])["numRecords"] for add in adds)
    raise BenchFailed(f"no commit of {at} in {table}")


def check(whose: str, table: Path, records: int) -> None:
    """The table holds as many rows as it should, by its log.

    Raises:
        BenchFailed: It does not.
    """
    rows = rows_of(table)
    if rows != records:
        raise BenchFailed(f"{whose}: {rows:,} rows of {records:,} in {table}")


def rows_of(table: Path) -> int:
    """Rows of a table by its log."""
    adds = pa.table(DeltaTable(table).get_add_actions(flatten=True))
    return sum(adds["num_records"].to_pylist())
