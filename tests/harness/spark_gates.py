"""Moments in the middle of what Spark does, in which something else is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from raylake.spark.engine_rows import Scratch
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SOON_S = 60.0
SLOTS = 2


def while_spark_reads_its_source(
    patch: pytest.MonkeyPatch, folder: Path, works: Sequence[Callable[[], object]]
) -> None:
    """Each of the next upserts on Spark reads its source when one of the works has been done.

    It reads it inside its transaction.
    """
    left = iter(enumerate(works))
    given_at_once = Scratch.given

    @contextmanager
    def given_late(self: Scratch, session: SparkSession, rows: pa.Table) -> Iterator[DataFrame]:
        found = next(left, None)
        with given_at_once(self, session, rows) as frame:
            if found is None:
                yield frame
                return
            gate = folder / f"gate{found[0]}"
            gate.mkdir()

            def come() -> None:
                try:
                    until(lambda: any(gate.glob("reached-*")), "the source is read", SOON_S)
                    found[1]()
                finally:
                    (gate / "go").touch()

            thread = threading.Thread(target=come)
            thread.start()
            yield frame.mapInArrow(_pass(str(gate)), frame.schema)
            thread.join()

    patch.setattr(Scratch, "given", given_late)


def begun_together(
    spark: SparkSession, folder: Path, works: Sequence[Callable[[], object]]
) -> None:
    """Do all at once; none of their tasks runs before each of them has begun with one."""
    gate = folder / "together"
    gate.mkdir()
    holding = spark.newSession().range(0, SLOTS, 1, SLOTS).mapInArrow(_pass(str(gate)), "id long")
    threads = [threading.Thread(target=holding.count)]
    threads[0].start()
    try:
        until(lambda: len(list(gate.glob("reached-*"))) == SLOTS, "all slots are taken", SOON_S)
        for work in works:
            threads.append(threading.Thread(target=work))
            threads[-1].start()
        tracker = spark.sparkContext.statusTracker()
        until(
            lambda: len(tracker.getActiveJobsIds()) == len(threads),
            "each has begun with a task",
            SOON_S,
        )
    finally:
        (gate / "go").touch()
        for thread in threads:
            thread.join()


def _pass(gate: str) -> Any:
    def pass_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # It runs in a worker of Python's, which knows nothing of the tests.
        import os
        import time
        from pathlib import Path

        Path(gate, f"reached-{os.getpid()}").touch()
        deadline_s = time.monotonic() + 60
        while not Path(gate, "go").exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        yield from batches

    return pass_on
