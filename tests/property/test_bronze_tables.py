"""Bronze tables of any messages: appended to only, every coordinate kept (SPEC L 1 and 3).

The consumer's maker and the table's owner work on real files; polars reads them.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylake.clock import SystemClock
from raylake.codecs import DecoderSpec, parse_schema
from raylake.delta.files import WriteOptions
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.partition_values import NULL_FOLDER
from raylake.delta.spec import TableSpec, bronze_properties
from raylake.ingest.dead_letters import LetterHead
from raylake.ingest.made import Made
from raylake.ingest.ports import TableView
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.kafka.port import FetchedBatch
from raylake.kafka.records import FETCH_SCHEMA
from raylake.layers.bronze import BronzeShape
from raylake.layers.bronze_maker import BronzeMaker, BronzePlaces

READ_AS_NULL = ("", NULL_FOLDER)
STATS = ("_partition", "_offset", "_timestamp")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "..", "../a", "a/b=c", "%2F", " ", "null", "__HIVE_DEFAULT_PARTITION__", "é" * 150]
)
NAMES = st.sampled_from(["id", "name", "deep", "new", "newer", "ID", "a b", "_offset"])
VALUES = st.none() | st.integers(-(2**66), 2**66) | TEXTS | st.lists(st.integers(0, 9), max_size=2)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4).map(lambda one: json.dumps(one).encode())
POISON = st.sampled_from([b"", b"{", b"\xff", b"null", b'{"id":1,"id":2}', b'{"id":"\\ud800"}'])


@dataclass(frozen=True)
class Message:
    """One record, and how many offsets before it hold none."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int | None
    gap: int


MESSAGES = st.builds(
    Message,
    value=st.none() | DOCUMENTS | DOCUMENTS | POISON,
    key=st.none() | st.binary(max_size=5),
    headers=st.lists(st.tuples(TEXTS, st.none() | st.binary(max_size=4)), max_size=3),
    timestamp_ms=st.none() | st.integers(0, 4_102_444_800_000),
    gap=st.integers(0, 2),
)
BATCHES = st.lists(
    st.tuples(st.integers(0, 1), st.lists(MESSAGES, max_size=5), st.integers(0, 2)),
    min_size=1,
    max_size=5,
)


@dataclass
class World:
    """A table with its owner, fed batch by batch."""

    root: Path
    partition_by: tuple[str, ...]
    next: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    sent: dict[tuple[int, int], Message] = field(default_factory=dict)
    dead: set[tuple[int, int]] = field(default_factory=set)
    absent: int = 0

    def __post_init__(self) -> None:
        shape = BronzeShape.of(self.partition_by, keep_value=True, flags=False)
        payload = parse_schema({"id": "long", "name": "string"})
        spec = TableSpec(
            str(self.root / "t"),
            shape.schema(payload),
            tuple(shape.partition_names),
            bronze_properties(stats_columns=STATS),
        )
        identity = OwnerIdentity.of_this_process("p", "run")
        self.table = OwnedTable.attach(spec, identity, clock=SystemClock(), durability="none")
        self.table.admit({self.source(p): 0 for p in (0, 1)})
        self.maker = BronzeMaker(
            LetterHead("p", "bronze.t"),
            BronzePlaces(
                spec.path, str(self.root / "letters"), WriteOptions("none", stats_columns=STATS)
            ),
            shape,
            DecoderSpec(),
            None,
            SystemClock(),
        )

    def source(self, partition: int) -> SourcePartition:
        return SourcePartition("topic", "topic-id", partition)

    def feed(self, partition: int, messages: list[Message], tail: int) -> None:
        """One batch through the maker and into the table."""
        start = offset = self.next[partition]
        offsets = []
        for one in messages:
            offset += one.gap
            offsets.append(offset)
            self.sent[partition, offset] = one
            offset += 1
        end = offset + tail
        columns = {
            "offset": offsets,
            "timestamp_ms": [one.timestamp_ms for one in messages],
            "key": [one.key for one in messages],
            "value": [one.value for one in messages],
            "headers": [[{"key": k, "value": v} for k, v in one.headers] for one in messages],
        }
        arrays = [pa.array(columns[f.name], f.type) for f in FETCH_SCHEMA]
        records = pa.record_batch(arrays, schema=FETCH_SCHEMA)
        if end > start:
            batch = FetchedBatch(self.source(partition), start, end, records, 0, records.nbytes)
            self._commit(batch, self._make(batch))
        self.next[partition] = end

    def _make(self, batch: FetchedBatch) -> Made:
        self.maker.fit(self._view())
        made = self.maker.make(batch, None)
        if isinstance(made, pa.Schema):
            self.table.evolve(made)
            self.maker.fit(self._view())
            made = self.maker.make(batch, None)
        assert isinstance(made, Made)
        return made

    def _view(self) -> TableView:
        return TableView(self.table.table_id, self.table.schema, self.table.fingerprint)

    def _commit(self, batch: FetchedBatch, made: Made) -> None:
        rows, dead = made.rows.num_rows, len(made.dead_rows)
        places = batch.records.column("offset").to_pylist()
        self.dead |= {(batch.source.partition, places[row]) for row in made.dead_rows}
        absent = batch.end - batch.start - rows - dead
        self.absent += absent
        counts = Counts(rows=rows, dead=dead, absent=absent)
        span = OffsetRange(batch.source, batch.start, batch.end, counts)
        unit = Unit("p", "consumer-0", 1, self.table.fingerprint, (span,))
        unit = unit.replace(
            files=self.maker.write_rows([made.rows], self.table.schema) if rows else (),
            dead_letter_files=self.maker.write_dead([made.dead], unit.unit_id)
            if made.dead is not None
            else (),
        )
        (outcome,) = self.table.commit([unit])
        assert outcome.status == "committed", outcome
        # Handed over once more, as after a lost answer: it is there already.
        (again,) = self.table.commit([unit])
        assert again.status == "already", again

    def rows(self) -> list[dict[str, Any]]:
        """What polars reads, by coordinates."""
        frame = pl.scan_delta(str(self.root / "t")).collect()
        return frame.sort("_partition", "_offset").to_dicts()


def _check_text(row: dict[str, Any], partition_by: tuple[str, ...]) -> None:
    """A text is in its column, whatever it is; one that partitions read as null is rescued."""
    sent = {} if row["_tombstone"] else json.loads(row["_value"])
    text = sent.get("name")
    if isinstance(text, str) and (text not in READ_AS_NULL or "name" not in partition_by):
        assert row["name"] == text
    elif isinstance(text, str):
        assert row["name"] is None
        assert json.loads(row["_rescued_data"])["name"] == text


EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PARTITIONINGS = st.sampled_from([(), ("date(_timestamp)",), ("name", "hour(_timestamp)")])


@EXAMPLES
@given(BATCHES, PARTITIONINGS)
def test_property_01_append_only_persistence_no_commit_changes_a_row(
    batches: list[tuple[int, list[Message], int]], partition_by: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), partition_by)
        known: list[dict[str, Any]] = []
        for partition, messages, tail in batches:
            world.feed(partition, messages, tail)
            now = {(r["_partition"], r["_offset"]): r for r in world.rows()}
            for row in known:
                found = now[row["_partition"], row["_offset"]]
                assert {name: found[name] for name in row} == row
            known = list(now.values())
        assert len(known) + len(world.dead) == len(world.sent)
        actions = [
            json.loads(line)
            for path in Path(folder, "t", "_delta_log").glob("*.json")
            for line in path.read_text().splitlines()
        ]
        assert not any("remove" in action for action in actions)


@EXAMPLES
@given(BATCHES, PARTITIONINGS)
def test_property_03_metadata_completeness_every_row_has_its_coordinates(
    batches: list[tuple[int, list[Message], int]], partition_by: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), partition_by)
        for partition, messages, tail in batches:
            world.feed(partition, messages, tail)
        rows = world.rows()
        places = [(row["_partition"], row["_offset"]) for row in rows]
        assert places == sorted(world.sent.keys() - world.dead)
        for place, row in zip(places, rows, strict=True):
            one = world.sent[place]
            assert row["_topic"] == "topic"
            assert row["_key"] == one.key
            assert row["_value"] == one.value
            assert row["_tombstone"] is (one.value is None)
            assert [(h["key"], h["value"]) for h in row["_headers"]] == one.headers
            stamp = row["_timestamp"]
            ms = None if stamp is None else round(stamp.timestamp() * 1000)
            assert ms == one.timestamp_ms
            assert row["_ingested_at"] <= dt.datetime.now(dt.UTC)
            _check_text(row, partition_by)
        states = world.table.states()
        totals = [state.totals for state in states.values()]
        assert sum(one.rows for one in totals) == len(rows)
        assert sum(one.dead for one in totals) == len(world.dead)
        assert sum(one.absent for one in totals) == world.absent
        assert {s.partition: state.next for s, state in states.items()} == world.next
