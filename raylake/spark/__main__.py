"""Fetch Spark's jars and archive the classes of its JVMs: the last step of an image with Spark."""

from __future__ import annotations

import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from raylake.client.cluster import connect
from raylake.client.environment import prepare_ray
from raylake.clock import SystemClock
from raylake.spark.classes import ClassArchive, session_archive
from raylake.spark.jars import store_jars
from raylake.spark.java import spark_java
from raylake.spark.session import refuse_missing, start_session
from raylake.spark.settings import SparkSetup
from raylake.tables.requests import Append, Upsert
from raylake.tables.upkeep_requests import Compact


def main() -> int:
    """Run what tables need of Spark once, in a session of its own, unless that was done before."""
    began_s = time.monotonic()
    refuse_missing()
    store_jars(spark_java())
    archive = session_archive()
    if not archive.file.exists():
        _record(archive)
    if not archive.file.exists():
        print(f"no archive of Spark's classes could be made in {archive.folder}", file=sys.stderr)  # noqa: T201
        return 1
    spent_s = time.monotonic() - began_s
    print(f"Spark's jars and an archive of their classes ready in {spent_s:.1f} s: {archive.file}")  # noqa: T201
    return 0


def _record(archive: ClassArchive) -> None:
    prepare_ray()
    import ray

    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        connect(num_cpus=2, session_dir=Path(folder) / "r")
        try:
            session = start_session(SparkSetup(), SystemClock())
            try:
                _use(import_module("raylake.spark.engine").SparkEngine(session.session), folder)
                archive.make(wait=True)
            finally:
                session.stop()
        finally:
            ray.shutdown()


def _use(engine: Any, folder: str) -> None:
    table, rows = f"{folder}/t", pa.table({"id": [1, 2, 3], "v": ["a", "b", "c"]})
    write_deltalake(table, rows)
    more = pa.table({"id": [3, 4], "v": ["d", "e"]})
    for operation in (Upsert(more, ("id",)), Append(rows), Compact()):
        engine.execute(table, operation)


if __name__ == "__main__":
    sys.exit(main())
