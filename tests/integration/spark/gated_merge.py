"""The product's engine, and a MERGE by ``id`` that can be held up in a task on an executor."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from actors.spark_host import spark_engine
from raylake.spark.host import LiveSession
from raylake.spark.settings import store_settings
from raylake.tables.errors import OutcomeUnread, WriteFailed
from raylake.tables.requests import Upsert, Write
from raylake.tables.results import FileCounts, OperationResult, RowCounts

GATE = "gate:"
STORES = "stores:"
GATE_TIMEOUT_S = 120.0


class GatedMerge:
    """``why`` is ``gate:FOLDER``: each task waits while ``FOLDER/hold`` is there."""

    def __init__(self, live: LiveSession) -> None:
        self._live = live

    def execute(self, table: str, operation: Upsert, *, why: str, fence: Any) -> OperationResult:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        before = DeltaTable(table).version()
        session = self._live.session(table)
        if fence is not None:
            session.conf.set("spark.databricks.delta.write.txnAppId", fence[0])
            session.conf.set("spark.databricks.delta.write.txnVersion", str(fence[1]))
        try:
            source = session.createDataFrame(operation.rows.to_pylist(), "id long, v string")
            # Two tasks: more than one executor of one core does at once.
            source = source.repartition(2).mapInArrow(
                _gate(why.removeprefix(GATE)), "id long, v string"
            )
            source.createOrReplaceTempView("source")
            session.sql(
                f"MERGE INTO delta.`{table}` t USING source s ON t.id = s.id"
                " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
            )
        except (Py4JError, PySparkException, OSError) as error:
            if not self._live.alive():
                raise OutcomeUnread(f"{table}: the driver is gone") from error
            if DeltaTable(table).version() == before or fence is not None:
                raise WriteFailed(f"{table}: {str(error)[:300]}") from error
            raise
        after = DeltaTable(table).version()
        rows, files = RowCounts(operation.rows.num_rows), FileCounts()
        return OperationResult("upsert", table, "spark", why, before, after, rows, files, 0.0)


class Either:
    """The product's engine, but for operations that are to be held up, or to tell of stores."""

    def __init__(self, live: LiveSession) -> None:
        self._gated, self._product = GatedMerge(live), spark_engine(live)

    def execute(
        self, table: str, operation: Write, *, why: str, fence: Any, alongside: Any = None
    ) -> OperationResult:
        if why.startswith(STORES):
            told = json.dumps(store_settings(why.removeprefix(STORES)))
            return OperationResult("told", table, "spark", told, 0, 0, RowCounts(), FileCounts(), 0)
        if why.startswith(GATE):
            return self._gated.execute(table, operation, why=why, fence=fence)
        result: OperationResult = self._product.execute(
            table, operation, why=why, fence=fence, alongside=alongside
        )
        return result


def _gate(folder: str) -> Any:
    def pass_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        here = {"python": sys.executable, "parent": os.getppid()}
        reached = Path(folder) / f"reached-{os.getpid()}"
        reached.write_text(json.dumps(here))
        deadline_s = time.monotonic() + GATE_TIMEOUT_S
        while (Path(folder) / "hold").exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        yield from batches

    return pass_on
