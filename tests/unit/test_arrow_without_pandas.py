"""A process of a run makes Arrow arrays without importing pandas; others use it as ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import actors.partition_consumer
import numpy as np
import pyarrow as pa
pa.array([1]), pa.array(np.zeros(3)), pa.table({"a": ["x"]}), pa.scalar(1)
assert "pandas" not in sys.modules, "imported for nothing"
import pandas
assert pa.table({"a": [1]}).to_pandas()["a"].tolist() == [1]
assert pa.array(pandas.Series([1, 2])).to_pylist() == [1, 2]
"""


def test_the_processes_of_a_run_do_not_import_pandas() -> None:
    pytest.importorskip("pandas")
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
