"""An upsert by plain delta-spark, ``local[2]``, in a process of its own; prints what it took.

``table_operations.py`` starts it: ``table_spark.py TABLE SOURCE CLOCK``. The session is up and has
merged into a small table before the clock runs; the file CLOCK appears when it starts. Memory is
that of the Python process and of the JVM.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from spark_peer import session_with
from table_bed import KEY
from tree import Tree


def merge(session: SparkSession, table: str, source: str) -> None:
    """MERGE as its documentation has it."""
    rows = session.read.parquet(source).alias("source")
    target = DeltaTable.forPath(session, table).alias("target")
    (
        target.merge(rows, f"target.{KEY} = source.{KEY}")
        .whenMatchedUpdateAll()
        .whenNotMatchedInsertAll()
        .execute()
    )


def peak_bytes() -> int:
    """The most that this process and those below it had resident, each at its own time."""
    tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
    lines = (Path("/proc", str(one.pid), "status").read_text() for one in tree)
    peaks = (line for text in lines for line in text.splitlines() if line.startswith("VmHWM"))
    return sum(int(line.split()[1]) * 1024 for line in peaks)


def main() -> None:
    table, source, clock = sys.argv[1:]
    session = session_with({})
    with tempfile.TemporaryDirectory() as folder:
        small = str(Path(folder, "t"))
        session.read.parquet(source).limit(1000).write.format("delta").save(small)
        merge(session, small, source)
    tree = Tree(os.getpid())
    before = tree.sample()
    Path(clock).touch()
    began = time.perf_counter()
    merge(session, table, source)
    seconds = time.perf_counter() - began
    metrics = DeltaTable.forPath(session, table).history(1).first()["operationMetrics"]
    rows = int(metrics["numTargetRowsUpdated"]) + int(metrics["numTargetRowsInserted"])
    cpu_s = tree.sample() - before
    found = {"rows": rows, "seconds": seconds, "cpu_s": cpu_s, "peak_bytes": peak_bytes()}
    print(json.dumps({"answer": found}), flush=True)
    session.stop()


if __name__ == "__main__":
    main()
