"""MERGE against OPTIMIZE, and OPTIMIZE against itself: one loses cleanly, and is run again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raylake.spark.engine import SparkEngine
from raylake.spark.engine_errors import is_conflict
from raylake.spark.engine_sessions import one_session
from raylake.tables.requests import Append, Create, Upsert
from raylake.tables.turns import ended
from tests.harness.tables import SCHEMA, Table, orders

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROUNDS = 5
FILES = 4


@pytest.fixture
def small_files(spark: SparkSession, tmp_path: Path) -> Table:
    """Forty rows in four files."""
    table = Table(SparkEngine(one_session(spark)), tmp_path / "t")
    table.do(Create(SCHEMA))
    for at in range(FILES):
        table.do(Append(orders(range(10 * at, 10 * at + 10), 0)))
    return table


def optimise(spark: SparkSession, table: Table) -> Exception | None:
    return ended(lambda: spark.newSession().sql(f"OPTIMIZE delta.`{table.path}`").collect())


def together(*works: Callable[[], None]) -> None:
    """Run all at once; an error of any is the test's."""
    start = threading.Barrier(len(works))
    errors: list[Exception] = []

    def run(work: Callable[[], None]) -> None:
        start.wait()
        error = ended(work)
        if error is not None:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def at_once(work: Callable[[], Exception | None]) -> list[Exception]:
    """Do it twice at once; the errors."""
    found: list[Exception | None] = []
    together(*[lambda: found.append(work())] * 2)
    return [error for error in found if error is not None]


@pytest.mark.spec("C6")
def test_failure_23_merge_and_optimize_lose_no_update(
    small_files: Table, spark: SparkSession
) -> None:
    attempts: list[int] = []
    lost: list[Exception] = []
    done = threading.Event()
    other = Table(SparkEngine(one_session(spark)), small_files.path)

    def merge() -> None:
        try:
            for step in range(1, ROUNDS + 1):
                rows = orders([step % 40, 1000 + step], step)
                attempts.append(other.do(Upsert(rows, ("id",))).attempts)
        finally:
            done.set()

    def compact() -> None:
        while not done.is_set():
            error = optimise(spark, small_files)
            if error is not None:
                lost.append(error)

    together(merge, compact)
    assert all(is_conflict(error) for error in lost), lost
    assert sum(attempts) - len(attempts) + len(lost) > 0, "nobody met anybody"
    expected = dict.fromkeys(range(40), 0)
    for step in range(1, ROUNDS + 1):
        expected |= {step % 40: step, 1000 + step: step}
    assert small_files.amounts() == expected
    assert len(small_files.ids()) == len(expected), "doubled"
    assert optimise(spark, small_files) is None
    assert small_files.amounts() == expected


@pytest.mark.spec("C6")
def test_failure_23_two_optimizes_double_no_row(small_files: Table, spark: SparkSession) -> None:
    lost: list[Exception] = []
    before = small_files.rows()
    for at in range(10):
        if lost:
            break
        for n in range(2):
            small_files.do(Append(orders([100 + 2 * at + n], 0)))
        before = small_files.rows()
        lost = at_once(lambda: optimise(spark, small_files))
        assert small_files.rows() == before
    assert lost, "never at once"
    assert all(is_conflict(error) for error in lost), lost
    assert optimise(spark, small_files) is None
    assert small_files.rows() == before
