"""A real table on the disk, its owners, and units with real files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties

from raylake.clock import SystemClock
from raylake.delta.dead_letters import (
    DEAD_LETTER_PARTITION_BY,
    DEAD_LETTER_SCHEMA,
    DeadLetterTable,
)
from raylake.delta.files import write_data_files
from raylake.delta.identity import TAKE_OVER, OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec, bronze_properties
from raylake.ingest.unit import Counts, DataFile, OffsetRange, SourcePartition, Unit

PIPELINE = "orders"
SCHEMA = pa.schema(
    [
        ("v", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
ALIVE_ELSEWHERE = OwnerIdentity(PIPELINE, "another-run", "another-host", 1, 0.0)


def source(partition: int, topic_id: str = "topic-id") -> SourcePartition:
    return SourcePartition("orders", topic_id, partition)


P0, P1 = source(0), source(1)


class Scope:
    """One lake in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.path = root / "lake" / "bronze" / "orders"
        self.letters_path = root / "lake" / "dead_letters" / "orders"
        properties = bronze_properties(stats_columns=("_partition", "_offset"))
        self.spec = TableSpec(str(self.path), SCHEMA, (), properties)

    def me(self, run: str = "run-1") -> OwnerIdentity:
        return OwnerIdentity.of_this_process(PIPELINE, run)

    def attach(self, run: str = "run-1", **more: object) -> OwnedTable:
        options = {"clock": SystemClock(), "durability": "sync", **more}
        if options.pop("take_over", False):
            options["claim"] = TAKE_OVER
        identity = options.pop("identity", None) or self.me(run)
        spec = options.pop("spec", self.spec)
        return OwnedTable.attach(spec, identity, **options)  # type: ignore[arg-type]

    def owner(self, origins: Mapping[SourcePartition, int] | None = None) -> OwnedTable:
        owner = self.attach()
        owner.admit(origins or {P0: 0, P1: 0})
        return owner

    def letters(self, run: str = "run-1") -> DeadLetterTable:
        return DeadLetterTable.attach(str(self.letters_path), self.me(run), clock=SystemClock())

    def files(
        self, owner: OwnedTable, partition: int, start: int, end: int
    ) -> tuple[DataFile, ...]:
        rows = end - start
        data = {
            "v": pa.array([f"{partition}:{o}" for o in range(start, end)], pa.string()),
            "_partition": pa.array([partition] * rows, pa.int32()),
            "_offset": pa.array(range(start, end), pa.int64()),
        }
        arrays = [data.get(f.name, pa.nulls(rows, f.type)) for f in owner.schema]
        table = pa.table(arrays, schema=owner.schema)
        return write_data_files(self.path, table, owner.schema, owner.partition_by)

    def unit(self, owner: OwnedTable, start: int, end: int, partition: int = 0) -> Unit:
        span = OffsetRange(source(partition), start, end, Counts(rows=end - start))
        files = self.files(owner, partition, start, end)
        return Unit(PIPELINE, "consumer-0", 1, owner.fingerprint, (span,), files)

    def dead_unit(self, owner: OwnedTable, start: int, end: int) -> Unit:
        """A unit of dead letters alone."""
        rows = end - start
        fields = {
            "pipeline": pa.array([PIPELINE] * rows),
            "topic": pa.array(["orders"] * rows),
            "partition": pa.array([0] * rows, pa.int32()),
            "offset": pa.array(range(start, end), pa.int64()),
            "stage": pa.array(["decode"] * rows),
            "hour": pa.array([7] * rows, pa.int32()),
        }
        arrays = [fields.get(f.name, pa.nulls(rows, f.type)) for f in DEAD_LETTER_SCHEMA]
        table = pa.table(arrays, schema=DEAD_LETTER_SCHEMA)
        self.letters_path.mkdir(parents=True, exist_ok=True)
        files = write_data_files(
            self.letters_path, table, DEAD_LETTER_SCHEMA, DEAD_LETTER_PARTITION_BY
        )
        span = OffsetRange(P0, start, end, Counts(dead=rows))
        unit = Unit(PIPELINE, "consumer-0", 1, owner.fingerprint, (span,))
        return dataclasses.replace(unit, dead_letter_files=files)

    def offsets(self, partition: int = 0) -> list[int]:
        """What another engine reads, in order."""
        frame = pl.scan_delta(str(self.path)).filter(pl.col("_partition") == partition)
        return sorted(frame.collect()["_offset"].to_list())

    def log(self, version: int) -> Path:
        return self.path / "_delta_log" / f"{version:020d}.json"

    def foreign_commit(self) -> None:
        """An empty commit by somebody who knows nothing of us."""
        table = DeltaTable(self.path)
        table.create_write_transaction(
            [],
            "append",
            table.schema(),
            commit_properties=CommitProperties(max_commit_retries=0),
            post_commithook_properties=NO_HOOKS,
        )
