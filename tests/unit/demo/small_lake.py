"""A bronze table, its dead letters and the producer's record, small, with room for damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from raylake.demo.auditor import AuditReport, audit
from raylake.demo.record import RecordWriter

BRONZE = pa.schema(
    [
        ("order_id", pa.string()),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_value", pa.binary()),
        ("_tombstone", pa.bool_()),
        ("day", pa.string()),
    ]
)
LETTERS = pa.schema(
    [
        ("pipeline", pa.string()),
        ("table", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("value", pa.binary()),
        ("stage", pa.string()),
        ("date", pa.string()),
    ]
)


@dataclass(frozen=True)
class Sent:
    """A record as it was produced."""

    partition: int
    offset: int
    value: bytes | None
    fate: str = "row"


def sent_records() -> list[Sent]:
    """Two partitions of ten: rows, a tombstone, two dead letters, an aborted record each."""
    sent = []
    for partition in (0, 1):
        for offset in range(10):
            value = f'{{"order_id":"{partition}-{offset}"}}'.encode()
            sent.append(Sent(partition, offset, value))
        sent[-7] = replace(sent[-7], value=None)
        sent[-5] = replace(sent[-5], value=b"{broken", fate="dead")
        sent[-4] = replace(sent[-4], value=b"", fate="dead")
        sent[-2] = replace(sent[-2], fate="aborted")
    return sent


class SmallLake:
    """Builds the tables under one folder; every method that writes makes one commit."""

    def __init__(self, root: Path) -> None:
        self.table = root / "bronze" / "orders"
        self.letters = root / "dead_letters" / "shop"
        self.record = root / "record.parquet"

    def write_record(self, sent: Iterable[Sent], topic: str = "orders") -> None:
        with RecordWriter(self.record, topic) as record:
            for one in sent:
                record.add(one.partition, one.offset, one.value, "event", one.fate)

    def add_rows(self, rows: Iterable[Sent], partition_by: list[str] | None = None) -> None:
        data = [
            {
                "order_id": "x",
                "_topic": "orders",
                "_partition": row.partition,
                "_offset": row.offset,
                "_value": row.value,
                "_tombstone": row.value is None,
                "day": f"2025-11-2{row.offset % 2}",
            }
            for row in rows
        ]
        write_deltalake(
            self.table,
            pa.Table.from_pylist(data, schema=BRONZE),
            mode="append",
            schema_mode="merge",
            partition_by=partition_by,
        )

    def add_letters(
        self, letters: Iterable[Sent], stage: str = "decode", table: str = "bronze.orders"
    ) -> None:
        data = [
            {
                "pipeline": "shop",
                "table": table,
                "topic": "orders",
                "partition": letter.partition,
                "offset": letter.offset,
                "value": letter.value,
                "stage": stage,
                "date": "2025-11-21",
            }
            for letter in letters
        ]
        write_deltalake(
            self.letters,
            pa.Table.from_pylist(data, schema=LETTERS),
            mode="append",
            partition_by=["date", "pipeline", "stage"],
        )

    def build(self, keep: Callable[[Sent], Sent | None] = lambda sent: sent) -> SmallLake:
        """The sound lake, in two commits a table; ``keep`` may change or drop what is stored."""
        sent = sent_records()
        self.write_record(sent)
        stored = [kept for one in sent if one.fate != "aborted" and (kept := keep(one))]
        for partition in (0, 1):
            mine = [one for one in stored if one.partition == partition]
            self.add_rows([one for one in mine if one.fate == "row"])
            if letters := [one for one in mine if one.fate == "dead"]:
                self.add_letters(letters)
        return self

    def audit(self) -> AuditReport:
        return audit(self.table, self.letters, [self.record])

    def live_file(self, place: int = 0) -> Path:
        return self.table / sorted(DeltaTable(self.table).file_uris())[place].rsplit("/", 1)[-1]

    def commit(self, *actions: dict[str, object]) -> None:
        """A commit written by hand, as a careless writer would."""
        log = self.table / "_delta_log"
        version = max(int(file.stem) for file in log.glob("*.json")) + 1
        text = "\n".join(json.dumps(action) for action in actions)
        (log / f"{version:020d}.json").write_text(text)

    def add_copy_of_a_file(self) -> None:
        """The same rows once more, under another file name."""
        source = self.live_file()
        copy = source.with_name("copy of it.parquet")
        shutil.copy(source, copy)
        add = {
            "path": "copy%20of%20it.parquet",
            "partitionValues": {},
            "size": copy.stat().st_size,
            "modificationTime": 0,
            "dataChange": True,
        }
        self.commit({"add": add})

    def drop_a_file(self) -> int:
        """Remove a live file from the log; returns its number of rows."""
        remove = {"path": self.live_file().name, "dataChange": True, "deletionTimestamp": 0}
        before = DeltaTable(self.table).count()
        self.commit({"remove": remove})
        return before - DeltaTable(self.table).count()
