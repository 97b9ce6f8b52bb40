"""Another run in the test's own process: a table's owner, and what a consumer does for it."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable

from raylake.clock import SystemClock
from raylake.codecs.port import DecoderSpec
from raylake.config.addresses import dead_letter_path
from raylake.delta.files import WriteOptions
from raylake.delta.identity import TAKE_OVER, OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.schema import arrow_schema
from raylake.delta.spec import TableSpec
from raylake.ingest.dead_letters import LetterHead
from raylake.ingest.made import Made
from raylake.ingest.plan import TablePlan
from raylake.ingest.ports import TableView
from raylake.ingest.unit import Counts, OffsetRange, Unit
from raylake.kafka.connection import Connection
from raylake.kafka.fetch import PollFetcher
from raylake.kafka.port import FetchedBatch, Position
from raylake.layers.bronze_maker import BronzeMaker, BronzePlaces
from tests.harness.scope import TABLE, Scope
from tests.harness.waiting import until


class Successor:
    """Another run's owner, which takes the table over, without Ray.

    Dead letters are written and named by its commits; the next run adds them to their table (I5).
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        path, name = str(scope.table()), f"bronze.{TABLE}"
        plan = TablePlan(name, path, scope.config.bronze[TABLE], ())
        spec = TableSpec(path, arrow_schema(DeltaTable(path).schema()), (), {})
        identity = OwnerIdentity.of_this_process(scope.name, "another-run")
        self.table = OwnedTable.attach(
            spec, identity, clock=SystemClock(), durability="sync", claim=TAKE_OVER
        )
        self._maker = BronzeMaker(
            LetterHead(scope.name, name),
            BronzePlaces(
                path,
                dead_letter_path(scope.config),
                WriteOptions("sync", stats_columns=plan.stats_columns),
            ),
            plan.shape,
            DecoderSpec(),
            None,
            SystemClock(),
        )

    def release(self) -> None:
        """Leave, so that the next run need not wait."""
        self.table.release()

    def ingest(self) -> int:
        """Commit all that the topic holds beyond the table's ends.

        Returns:
            Rows committed.
        """
        before = self._rows()
        states = self.table.states()
        fetcher = PollFetcher(Connection(self.scope.broker.bootstrap, None, 5.0))
        try:
            fetcher.assign({s: Position(one.next, one.leader_epoch) for s, one in states.items()})
            fetcher.check_topics()

            def caught_up() -> bool:
                for batch in fetcher.fetch(0.2):
                    self._commit(batch)
                ends = self.scope.ends
                return all(one.next >= ends[str(s)] for s, one in self.table.states().items())

            until(caught_up, "the successor has everything", 30.0)
        finally:
            fetcher.close()
        return self._rows() - before

    def _rows(self) -> int:
        return sum(state.totals.rows for state in self.table.states().values())

    def _commit(self, batch: FetchedBatch) -> None:
        table, maker = self.table, self._maker
        maker.fit(TableView(table.table_id, table.schema, table.fingerprint))
        made = maker.make(batch, None)
        assert isinstance(made, Made)
        rows, dead = made.rows.num_rows, len(made.dead_rows)
        counts = Counts(rows=rows, dead=dead, absent=batch.end - batch.start - rows - dead)
        span = OffsetRange(batch.source, batch.start, batch.end, counts, batch.leader_epoch)
        unit = Unit(self.scope.name, "successor", table.generation, table.fingerprint, (span,))
        letters: list[pa.Table] = [] if made.dead is None else [made.dead]
        unit = unit.replace(
            files=maker.write_rows([made.rows], table.schema) if rows else (),
            dead_letter_files=maker.write_dead(letters, unit.unit_id) if letters else (),
        )
        (outcome,) = table.commit([unit])
        assert outcome.status == "committed", outcome
