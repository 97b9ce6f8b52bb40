"""Rows that leave tables of a pipeline by a condition, under whoever owns each table."""

from __future__ import annotations

import contextlib
import uuid
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from raylake.client.cluster import joined
from raylake.client.cluster_tables import ClusterTables
from raylake.client.quarantine import Service
from raylake.client.quiet_tables import newest_run
from raylake.client.stand_in import stand_in
from raylake.clock import Clock
from raylake.config import Pipeline
from raylake.delta.ledger import OWNER_APP, states_of
from raylake.delta.log_reader import LogReader
from raylake.delta.rewritten import FilesChanged
from raylake.errors import RayLakeError
from raylake.ingest.plan import new_run_id
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.proposals import propose
from raylake.tables.requests import Delete, Read
from raylake.tables.results import OperationResult
from raylake.tables.running import Order
from raylake.tables.service import DirectTables, TableService
from raylake.tables.upkeep_requests import Compact

TRIES: Final = 4


class Deletions:
    """Deletes rows of a pipeline's tables. A context: what it is connected to is left at its end.

    A table that Kafka feeds is written in a turn of its owner where the pipeline runs, and by this
    process in its place where it does not. Of such a table rows that leave are counted as dropped.

    Args:
        config: The pipeline.
        clock: Time.
        by: The cluster of tables that have an owner.
    """

    def __init__(self, config: Pipeline, clock: Clock, by: Service) -> None:
        self._config = config
        self._clock = clock
        self._by = by
        self._direct = DirectTables({"delta-rs": DeltaRsEngine(clock)})
        self._cluster: TableService | None = by.tables
        self._joined = ExitStack()

    def __enter__(self) -> Self:
        """Nothing is connected to yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves a cluster that was joined."""
        self._joined.close()

    def count(self, path: str, where: str) -> int:
        """The rows that a condition holds for, in the newest version.

        Raises:
            BadExpression, UnknownColumn: It is none on the table's columns.
        """
        columns = self._first_column(path)
        return sum(one.num_rows for one in self._direct.read(path, Read(where, columns)))

    def delete(self, path: str, where: str, said: str = "") -> OperationResult:
        """Delete the rows that a condition holds for.

        Args:
            path: The table.
            where: The condition.
            said: What the table's history says in the place of the condition, where that can be.

        Raises:
            RayLakeError: Why it was not done.
        """
        return self._execute(path, Delete(where), said)

    def purge(self, path: str, files: tuple[str, ...]) -> OperationResult:
        """Write live files anew without the rows that deletion vectors take away.

        Args:
            path: The table.
            files: The files, as its log names them.

        Raises:
            RayLakeError: Why it was not done.
        """
        return self._execute(path, Compact(files=files), "")

    def _execute(self, path: str, operation: Delete | Compact, said: str) -> OperationResult:
        if states_of(LogReader(path).snapshot().txns):
            run = newest_run(self._config, self._clock)
            if run is None or run.life not in ("alive", "elsewhere"):
                return self._in_its_place(path, operation, said)
            return self.on_cluster().execute(path, operation, engine="delta-rs")
        return self.tables_of(path).execute(path, operation, engine="delta-rs")

    def tables_of(self, path: str) -> TableService:
        """Who writes a table that no topic feeds."""
        owned = OWNER_APP in LogReader(path).snapshot().txns
        return self.on_cluster() if owned or self._by.address is not None else self._direct

    def on_cluster(self) -> TableService:
        """The tables that have an owner, on the cluster, which is joined now."""
        if self._cluster is None:
            self._joined.enter_context(joined(self._by.address))
            self._cluster = ClusterTables(self._by.address, self._config.spark)
        return self._cluster

    def _first_column(self, path: str) -> tuple[str, ...]:
        reader = self._direct.read(path, Read("false"))
        return (reader.schema.names[0],)

    def _in_its_place(self, path: str, operation: Delete | Compact, said: str) -> OperationResult:
        durability = self._config.ingest.durability
        owner = stand_in(path, new_run_id(), clock=self._clock, durability=durability)
        try:
            for left in reversed(range(TRIES)):
                with contextlib.ExitStack() as tried:
                    if left:
                        tried.enter_context(contextlib.suppress(FilesChanged))
                    order = Order(path, operation, "rows leave", request=uuid.uuid4().hex)
                    proposal = propose(DeltaRsEngine(self._clock), order, self._clock)
                    if proposal.rewritten is None:
                        return proposal.result
                    rewritten = proposal.rewritten
                    if said:
                        rewritten = replace(rewritten, parameters={"predicate": said})
                    version = owner.rewrites().rewrite(rewritten)
                    return replace(
                        proposal.result, version_before=version - 1, version_after=version
                    )
            raise AssertionError("unreachable")  # pragma: no cover
        finally:
            with contextlib.suppress(RayLakeError, OSError):
                owner.release()
