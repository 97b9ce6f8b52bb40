"""``to_spark()`` in a session of the caller's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import raylake
from raylake.client.lake_table import Table
from tests.harness.readers import in_spark


@pytest.mark.spec("C3")
def test_a_spark_frame_is_pinned_to_its_version(
    hundred: Table, lake: raylake.Lake, tmp_path: Path
) -> None:
    said = in_spark("tests.integration.tables_api.spark_frames", tmp_path, lake.where)
    assert hundred.version == 3
    assert json.loads(said.splitlines()[-1]) == {
        "without": "no Spark session is active in this process",
        "columns": ["id"],
        "ids": [51, 61, 71, 81, 91, 101, 111, 121, 131, 141],
        "old": 100,
        "feed": 150,
        "inserts": 150,
        "now": 0,
    }
