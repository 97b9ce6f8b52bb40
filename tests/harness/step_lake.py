"""A lake on the disk whose silver and gold tables are brought up to date in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from raylake.clock import SystemClock
from raylake.config import load
from raylake.ingest.plan import RunPlan
from raylake.layers.build import build
from raylake.layers.transform_plan import TransformPlan
from raylake.layers.transform_run import TransformRun
from raylake.tables.port import TableEngine
from raylake.tables.requests import Read, Write
from raylake.tables.results import OperationResult
from raylake.tables.service import DirectTables
from tests.harness.derived_steps import ENGINE, bronze, put


class StepLake:
    """Tables of a pipeline file over one bronze table, without Kafka and without Ray.

    Args:
        folder: Where file and lake lie.
        tables: The silver and gold sections.
        payload: The columns of ``bronze.t`` beside Kafka's.
        engine: Who writes the tables.
    """

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, Any],
        payload: pa.Schema,
        engine: TableEngine = ENGINE,
    ) -> None:
        self.lake = folder / "lake"
        self.file = folder / "steps.yaml"
        self._payload = payload
        self._document: dict[str, Any] = {
            "pipeline": "steps",
            "lake": str(self.lake),
            "kafka": {"bootstrap": "localhost:1"},
            "bronze": {"t": {"topics": ["t"]}},
            **tables,
        }
        self.by(engine)
        self._offset = 0
        bronze(self.lake / "bronze" / "t", payload)

    def by(self, engine: TableEngine) -> None:
        """From now on this engine writes."""
        self._by = DirectTables({engine.name: engine})
        self._document["engine"] = engine.name
        self.lake.mkdir(parents=True, exist_ok=True)
        self.file.write_text(yaml.safe_dump(self._document, sort_keys=False))

    def put(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """One more version of bronze."""
        placed: list[dict[str, Any]] = []
        for one in rows:
            placed.append({"_offset": self._offset, **one})
            self._offset += 1
        put(self.lake / "bronze" / "t", placed, self._payload)

    def run(self, *tables: str, refresh: Sequence[str] = ()) -> TransformRun:
        """Bring tables up to date.

        Raises:
            BaseException: A step's failure.
        """
        loaded = load(self.file)
        plan = RunPlan(loaded.config, loaded.sha256, str(self.file), "r")
        made = build(TransformPlan(plan, tables, tuple(refresh)), self._by, SystemClock())
        made.finish()
        if made.failure is not None:
            raise made.failure
        return made

    def step(self, rows: Iterable[Mapping[str, Any]]) -> TransformRun:
        """One more version of bronze, and what follows from it."""
        self.put(rows)
        return self.run()

    def path(self, name: str) -> Path:
        """Where a table lies."""
        return self.lake.joinpath(*name.split("."))

    def do(self, name: str, operation: Write) -> OperationResult:
        """What somebody does to a table beside the pipeline."""
        return self._by.execute(str(self.path(name)), operation)

    def rows(self, name: str, *columns: str) -> list[dict[str, Any]]:
        """A table's rows, in the order of their values."""
        found = ENGINE.read(str(self.path(name)), Read(columns=columns or None)).read_all()
        return sorted(found.to_pylist(), key=repr)
