"""``to_spark()`` in a session of the caller's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import raylake
from raylake.client.lake_table import Table
from tests.harness.cluster import ROOT
from tests.harness.readers import in_spark
from tests.harness.spark import java_17

BARE = """
import sys
from pyspark.sql import SparkSession
import raylake
from raylake.errors import ConfigError
session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
try:
    raylake.connect(sys.argv[1]).table("silver.orders").read().to_spark()
except ConfigError as error:
    print(error.message)
session.stop()
"""


@pytest.mark.long
@pytest.mark.spec("C3")
def test_a_spark_frame_is_pinned_to_its_version(
    hundred: Table, lake: raylake.Lake, tmp_path: Path
) -> None:
    said = in_spark("tests.integration.tables_api.spark_frames", tmp_path, lake.where)
    assert hundred.version == 3
    assert json.loads(said.splitlines()[-1]) == {
        "without": "no Spark session is there in this process, and none is started for a reading",
        "elsewhere": 150,
        "columns": ["id"],
        "ids": [51, 61, 71, 81, 91, 101, 111, 121, 131, 141],
        "old": 100,
        "feed": 150,
        "inserts": 150,
        "now": 0,
    }


@pytest.mark.long
@pytest.mark.spec("C3")
def test_a_session_without_delta_is_told_apart(hundred: Table, lake: raylake.Lake) -> None:
    java = java_17()
    done = subprocess.run(
        [sys.executable, "-c", BARE, lake.where],
        env={
            **os.environ,
            "JAVA_HOME": str(java.executable.resolve().parent.parent),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "this Spark session has no Delta" in done.stdout
