"""MERGE against OPTIMIZE, and OPTIMIZE against itself: one loses cleanly, and is run again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raylake.spark.engine import SparkEngine
from raylake.spark.engine_errors import is_conflict
from raylake.spark.engine_sessions import one_session
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Upsert
from raylake.tables.turns import ended
from tests.harness.spark_gates import begun_together, while_spark_reads_its_source
from tests.harness.tables import SCHEMA, Table, orders

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILES = 4


@pytest.fixture
def small_files(spark: SparkSession, tmp_path: Path) -> Table:
    """Forty rows in four files."""
    by_hand = Table(DeltaRsEngine(), tmp_path / "t")
    by_hand.do(Create(SCHEMA))
    for at in range(FILES):
        by_hand.do(Append(orders(range(10 * at, 10 * at + 10), 0)))
    return Table(SparkEngine(one_session(spark)), by_hand.path)


def optimise(spark: SparkSession, table: Table) -> Exception | None:
    return ended(lambda: spark.newSession().sql(f"OPTIMIZE delta.`{table.path}`").collect())


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_23_a_merge_that_an_optimize_came_before_is_done_again(
    small_files: Table, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Exception | None] = []
    work = lambda: lost.append(optimise(spark, small_files))  # noqa: E731
    while_spark_reads_its_source(monkeypatch, tmp_path, [work])
    result = small_files.do(Upsert(orders([5, 25, 100], 7), ("id",)))
    assert lost == [None]
    assert result.attempts == 2
    assert (result.rows.updated, result.rows.inserted) == (2, 1)
    expected = dict.fromkeys(range(40), 0) | dict.fromkeys((5, 25, 100), 7)
    assert small_files.amounts() == expected
    assert len(small_files.ids()) == len(expected), "doubled"
    kinds = [one.operation for one in small_files.engine.history(str(small_files.path), 2)]
    assert kinds == ["MERGE", "OPTIMIZE"]


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_23_two_optimizes_double_no_row(
    small_files: Table, spark: SparkSession, tmp_path: Path
) -> None:
    before = small_files.rows()
    # What is known of the table's files is known before either of them begins.
    spark.newSession().sql(f"SELECT * FROM delta.`{small_files.path}`").collect()
    ends: list[Exception | None] = []
    work = partial(optimise, spark, small_files)
    begun_together(spark, tmp_path, [lambda: ends.append(work())] * 2)
    (lost,) = [error for error in ends if error is not None]
    assert is_conflict(lost)
    assert small_files.rows() == before
    assert optimise(spark, small_files) is None
    assert small_files.rows() == before
    operations = [one.operation for one in small_files.engine.history(str(small_files.path))]
    assert operations.count("OPTIMIZE") == 1
