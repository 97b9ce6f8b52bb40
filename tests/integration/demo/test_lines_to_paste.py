"""The lines that the demo ends with are run as a user would: pasted into a shell."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from raylake.demo.read_back import SPARK_PACKAGE, read_back
from tests.unit.demo.small_lake import Sent, SmallLake


@pytest.fixture(params=["lake", "it's a lake"])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> SmallLake:
    lake = SmallLake(tmp_path / request.param)
    lake.add_rows([Sent(0, 41, b"{}"), Sent(0, 42, None)], partition_by=["day"])
    channel = Field("channel", PrimitiveType("string"), nullable=True)
    DeltaTable(lake.table).alter.add_columns(channel)
    lake.add_rows([Sent(3, 777, b"{}")])
    return lake


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_the_line_reads_the_lake(lake: SmallLake, tmp_path: Path, engine: str) -> None:
    line = getattr(read_back(lake.table, python=sys.executable), engine)
    assert "\n" not in line
    shell = ["/bin/sh", "-c", line]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    for shown in ("42", "777"):
        assert shown in done.stdout


def test_the_spark_line_names_table_and_package(lake: SmallLake) -> None:
    line = read_back(lake.table).spark
    assert f"--packages {SPARK_PACKAGE}" in line
    assert "delta.`/" in line
    assert "\n" not in line
    words = shlex.split(line)
    java_home, python, command = words[0], words[1], words[2]
    assert Path(java_home.removeprefix("JAVA_HOME="), "bin", "java").exists()
    assert python == f"PYSPARK_PYTHON={sys.executable}"
    assert Path(command) == Path(sys.executable).with_name("spark-sql")
    assert Path(command).exists()


def test_a_line_whose_package_is_missing_begins_with_its_installation(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = read_back(lake.table)
    monkeypatch.setattr("raylake.demo.read_back.find_spec", lambda _name: None)
    elsewhere = read_back(lake.table)
    pip = f"{sys.executable} -m pip install"
    assert elsewhere.duckdb == here.duckdb
    assert elsewhere.polars == f"{pip} polars && {here.polars}"
    assert elsewhere.spark == f"{pip} 'raylake[spark]' && {here.spark}"
