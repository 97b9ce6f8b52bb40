"""What an owner holds in memory: partitions' states, generations and the schema."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from deltalake import DeltaTable

from raylake.delta.ledger import (
    NAMES,
    Fold,
    Ledger,
    app_id,
    changed_values,
    state_from_values,
)
from raylake.delta.schema import arrow_schema, fingerprint
from raylake.delta.spec import TableSpec
from raylake.delta.txn_listing import admitted_partitions
from raylake.errors import Refused
from raylake.ingest.unit import PartitionState, SourcePartition


class TableState:
    """The ends of all partitions (read from the log when the owner starts) and the schema."""

    def __init__(self, table: DeltaTable, spec: TableSpec) -> None:
        self._table = table
        self._spec = spec
        self._schema_json = ""
        self.schema = pa.schema([])
        self.fingerprint = ""
        self.states: dict[SourcePartition, PartitionState] = {}
        self.pipelines: dict[SourcePartition, str] = {}
        self.generations: dict[SourcePartition, int] = {}
        self.load_schema()
        self._load_states()

    def ledger(self) -> Ledger:
        """The ground of a fold."""
        return Ledger(self.states, self.pipelines, self.generations, self.fingerprint)

    def load_schema(self) -> None:
        """Take over the handle's schema where it changed."""
        text = self._table.schema().to_json()
        if text != self._schema_json:
            self._schema_json = text
            self.schema = arrow_schema(self._table.schema())
            self.fingerprint = fingerprint(self.schema)

    def txn_values(self, folded: Fold) -> dict[str, int]:
        """The txns that a fold's states need, by app id; only those that change."""
        return {
            app_id(self.pipelines[source], source, name): value
            for source, state in folded.states.items()
            for name, value in changed_values(self.states[source], state).items()
        }

    def refuse_other_pipeline(self, sources: Iterable[SourcePartition], pipeline: str) -> None:
        """Refuse a topic that another pipeline's name already ingests here (I9).

        Raises:
            Refused: Naming the topic and the pipeline.
        """
        holders = {s.topic_id: p for s, p in self.pipelines.items()}
        for source in sources:
            holder = holders.get(source.topic_id, pipeline)
            if holder != pipeline:
                raise Refused(
                    f"{self._spec.path}: topic {source.topic} (id {source.topic_id}) is already "
                    f"ingested here by pipeline {holder!r}; {pipeline!r} would double it",
                    hint="Keep the pipeline's old name, or give this pipeline another table.",
                    topic=source.topic,
                    pipeline=holder,
                )

    def _load_states(self) -> None:
        """Names from the log's txns (delta-rs lists none), values from the owner's own handle."""
        for pipeline, source in admitted_partitions(self._spec.root):
            values = {}
            for name in NAMES:
                value = self._table.transaction_version(app_id(pipeline, source, name))
                if value is not None:
                    values[name] = int(value)
            state = state_from_values(values)
            if state is not None:
                self.states[source] = state
                self.pipelines[source] = pipeline
