"""A small real lake: a bronze table under its owner, and the dead-letter table beside it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.transaction import AddAction

from raylake.clock import SystemClock
from raylake.delta.dead_letters import (
    DEAD_LETTER_PARTITION_BY,
    DEAD_LETTER_SCHEMA,
    DeadLetterTable,
)
from raylake.delta.files import write_data_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec
from raylake.delta.verify import VerifyReport, verify
from raylake.ingest.unit import Counts, DataFile, OffsetRange, SourcePartition, Unit

PIPELINE = "orders"
TABLE = "bronze.orders"
TOPIC = "orders.eu"
TOPIC_ID = "0b3f9a4e-6a52-4d43-a7a5-0f5ad9f4b9a1"
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

ROWS = pa.schema(
    [
        ("order_id", pa.string()),
        ("country", pa.string()),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Span:
    """Offsets of one partition and what becomes of them: those in no list are rows."""

    partition: int
    start: int
    end: int
    dead: frozenset[int] = frozenset()
    absent: frozenset[int] = frozenset()
    topic: str = TOPIC
    topic_id: str = TOPIC_ID

    @property
    def source(self) -> SourcePartition:
        return SourcePartition(self.topic, self.topic_id, self.partition)

    def rows(self) -> list[int]:
        return [o for o in range(self.start, self.end) if o not in self.dead | self.absent]

    def range(self) -> OffsetRange:
        counts = Counts(rows=len(self.rows()), dead=len(self.dead), absent=len(self.absent))
        return OffsetRange(self.source, self.start, self.end, counts)


@dataclass
class Lake:
    root: Path
    name: str = TABLE
    partition_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = self.root / self.name.replace(".", "/")
        self.letters = self.root / "dead_letters" / PIPELINE
        self.owner = self.attach()
        self.letters_owner()

    def attach(self) -> OwnedTable:
        spec = TableSpec(str(self.table), ROWS, self.partition_by, self.properties)
        identity = OwnerIdentity.of_this_process(PIPELINE, "run")
        return OwnedTable.attach(spec, identity, clock=SystemClock(), durability="none")

    def admit(self, *spans: Span) -> None:
        self.owner.admit({s.source: s.start for s in spans})

    def ingest(self, *spans: Span, settle: bool = True) -> int:
        """One unit, one commit; the dead letters follow unless ``settle`` is off."""
        files = write_data_files(
            self.table, rows_of_spans(spans), self.owner.schema, self.partition_by
        )
        letters = _letters(spans, self.name)
        dead = write_data_files(self.letters, letters, DEAD_LETTER_SCHEMA, DEAD_LETTER_PARTITION_BY)
        unit = Unit(
            PIPELINE,
            "consumer-0",
            1,
            self.owner.fingerprint,
            tuple(s.range() for s in spans),
            files,
            dead,
        )
        (outcome,) = self.owner.commit([unit])
        assert outcome.status == "committed", outcome
        if settle:
            self.settle()
        return self.owner.version

    def settle(self) -> None:
        """The dead-letter table's owner does what the data table's commits ask of it."""
        letters = self.letters_owner()
        stored = letters.stored_version(self.owner.table_id)
        letters.redo(self.owner.table_id, self.owner.pending_dead_letters(stored))

    def letters_owner(self) -> DeadLetterTable:
        identity = OwnerIdentity.of_this_process(PIPELINE, "run")
        return DeadLetterTable.attach(
            str(self.letters), identity, clock=SystemClock(), durability="none"
        )

    def verify(self, level: str = "log") -> VerifyReport:
        return verify(str(self.table), str(self.letters), PIPELINE, level)

    def log(self, version: int) -> Path:
        return self.table / "_delta_log" / f"{version:020d}.json"

    def maintain(self) -> None:
        """Checkpoint, log clean-up and vacuum of both tables."""
        for path in (self.table, self.letters):
            table = DeltaTable(path)
            table.create_checkpoint()
            for commit in (path / "_delta_log").glob("*.json"):
                if int(commit.stem) < table.version():
                    commit.unlink()
            DeltaTable(path).vacuum(
                retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
            )


def add(path: Path, files: Sequence[DataFile], txns: Mapping[str, int]) -> None:
    """A commit of files and txns by a plain delta-rs writer."""
    table = DeltaTable(path)
    table.create_write_transaction(
        [_action(f) for f in files],
        "append",
        table.schema(),
        partition_by=table.metadata().partition_columns,
        commit_properties=CommitProperties(
            max_commit_retries=0,
            app_transactions=[Transaction(a, v) for a, v in txns.items()],
        ),
        post_commithook_properties=NO_HOOKS,
    )


def actions(commit: Path) -> list[dict[str, dict[str, Any]]]:
    return [json.loads(line) for line in commit.read_text().split("\n") if line]


def write_actions(commit: Path, found: Sequence[Mapping[str, object]]) -> None:
    commit.write_text("\n".join(json.dumps(a) for a in found))


def added_files(commit: Path) -> list[DataFile]:
    """The files that a commit added, to be added once more."""
    found = [a["add"] for a in actions(commit) if "add" in a]
    return [DataFile(a["path"], a["size"], 0, a["partitionValues"], a["stats"]) for a in found]


def under_another_name(table: Path, file: DataFile) -> DataFile:
    """A copy of a file on the disk."""
    source = table / unquote(file.path)
    target = source.with_name(f"copy-{source.name}")
    shutil.copyfile(source, target)
    return dataclasses.replace(file, path=str(target.relative_to(table)))


def _action(file: DataFile) -> AddAction:
    values = dict(file.partition_values)
    # delta-rs encodes the path itself.
    return AddAction(
        unquote(file.path), file.size_bytes, values, 1_700_000_000_000, True, file.stats
    )


def rows_of_spans(spans: Sequence[Span]) -> pa.Table:
    found = [(s, o) for s in spans for o in s.rows()]
    return pa.table(
        {
            "order_id": [f"order-{s.partition}-{o}" for s, o in found],
            "country": [("NO", "DE", "a b/c:%d", "ø")[o % 4] for _, o in found],
            "_topic": [s.topic for s, _ in found],
            "_partition": pa.array([s.partition for s, _ in found], pa.int32()),
            "_offset": pa.array([o for _, o in found], pa.int64()),
        },
        schema=ROWS,
    )


def _letters(spans: Sequence[Span], name: str) -> pa.Table:
    found = [(s, o) for s in spans for o in sorted(s.dead)]
    count = len(found)
    columns = {
        "pipeline": [PIPELINE] * count,
        "table": [name] * count,
        "topic": [s.topic for s, _ in found],
        "topic_id": [s.topic_id for s, _ in found],
        "partition": [s.partition for s, _ in found],
        "offset": [o for _, o in found],
        "value": [b"{"] * count,
        "stage": ["decode"] * count,
        "reason": ["not JSON"] * count,
        "date": [dt.date(2026, 11, 21)] * count,
        "hour": [8] * count,
    }
    arrays = [pa.array(columns.get(f.name, [None] * count), f.type) for f in DEAD_LETTER_SCHEMA]
    return pa.table(arrays, schema=DEAD_LETTER_SCHEMA)
