"""What everybody uses to work on tables: one door, whichever engine runs behind it.

:class:`DirectTables` needs no Ray and serves tables that have no owner. A table that has one is
served by ``actors.table_service``: its owner grants a slot, and a process of its own does the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import psutil
import pyarrow as pa

from raylake.tables.alongside import Alongside
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from raylake.tables.requests import Changes, Read, Write
from raylake.tables.results import OperationResult, TableVersion
from raylake.tables.routing import DELTA_RS, SPARK, EngineChoice, Resources, Route, decide
from raylake.tables.touched import load

__all__ = ["DirectTables", "EngineChoice", "Route", "TableService"]


class TableService(Protocol):
    """Runs operations on tables, by the engine that suits them.

    Errors are those of :class:`~raylake.tables.port.TableEngine`.
    """

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        engine: EngineChoice = "auto",
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """Run an operation that writes; the result says by which engine, and why.

        Args:
            table: The table's address.
            operation: What to do.
            engine: An engine by name, or ``auto``: decided by what the operation has to touch.
            alongside: What the commit carries beside its rows: then exactly one version is made.

        Raises:
            ProgressMoved: The table's log does not say what ``alongside`` expects.
            TableError: Saying whether the table changed.
        """
        ...

    def explain(self, table: str, operation: Write, *, engine: EngineChoice = "auto") -> Route:
        """Which engine would run an operation, and why; nothing is run.

        Raises:
            TableError: No engine would.
        """
        ...

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.read`."""
        ...

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """See :meth:`raylake.tables.port.TableEngine.changes`."""
        ...

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """See :meth:`raylake.tables.port.TableEngine.history`."""
        ...


class DirectTables:
    """:class:`TableService` in this process, for tables without an owner.

    Args:
        engines: Engines by name; delta-rs is always there.
        no_spark: Why Spark cannot be had, where it is not among them.
    """

    def __init__(
        self,
        engines: Mapping[str, TableEngine] | None = None,
        *,
        no_spark: str = "Spark runs on a Ray cluster, and this is not connected to one",
    ) -> None:
        self._engines: dict[str, TableEngine] = {DELTA_RS: DeltaRsEngine(), **(engines or {})}
        self._no_spark = "" if SPARK in self._engines else no_spark

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        engine: EngineChoice = "auto",
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """See :meth:`TableService.execute`."""
        route = self.explain(table, operation, engine=engine)
        chosen = self._engines[route.engine]
        return chosen.execute(table, operation, why=route.why, alongside=alongside)

    def explain(self, table: str, operation: Write, *, engine: EngineChoice = "auto") -> Route:
        """See :meth:`TableService.explain`."""
        free_bytes = int(psutil.virtual_memory().available)
        return decide(load(table, operation), Resources(free_bytes, self._no_spark), engine)

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """See :meth:`TableService.read`."""
        return self._reader.read(table, request)

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """See :meth:`TableService.changes`."""
        return self._reader.changes(table, request)

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """See :meth:`TableService.history`."""
        return self._reader.history(table, limit)

    @property
    def _reader(self) -> TableEngine:
        return self._engines[DELTA_RS]
