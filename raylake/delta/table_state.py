"""What an owner holds in memory: partitions' states, generations and the schema."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from deltalake import DeltaTable

from raylake.delta.ledger import (
    Fold,
    Ledger,
    app_id,
    changed_values,
    parse_app_id,
    state_from_values,
)
from raylake.delta.schema import arrow_schema, fingerprint
from raylake.delta.spec import TableSpec
from raylake.delta.txn_listing import list_txns
from raylake.errors import LogDamaged, Refused
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
        """Read every partition's state from the log's txns; the ends must be the handle's own.

        delta-rs lists no txns and takes 1 to 4 ms for one on large tables, so the log is read once
        and each ``next`` is compared.
        """
        values: dict[tuple[str, SourcePartition], dict[str, int]] = {}
        version = int(self._table.version())
        for text, value in list_txns(self._spec.root, version).items():
            parsed = parse_app_id(text)
            if parsed is not None:
                values.setdefault((parsed.pipeline, parsed.source), {})[parsed.name] = value
        for (pipeline, source), found in sorted(values.items()):
            state = state_from_values(found)
            if state is None:
                continue
            stored = self._table.transaction_version(app_id(pipeline, source, "next"))
            if stored != found["next"]:
                raise LogDamaged(
                    f"{self._spec.path}: the end of {source} is {found['next']} in the log files "
                    f"and {stored} in delta-rs's reading of version {version}",
                    hint="Stop every writer of this table and run 'raylake verify'.",
                )
            self.states[source] = state
            self.pipelines[source] = pipeline
