"""A pipeline without Kafka: records pass through its real decoder, writer and owner, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import yaml

from raylake.client.replay_tables import plan_of
from raylake.client.tables import pipeline_tables
from raylake.clock import SystemClock
from raylake.config import Loaded, dead_letter_path, load
from raylake.delta.dead_letters import DeadLetterTable
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.schema import fingerprint
from raylake.delta.verify import PipelineReport, VerifyOptions, verify_pipeline
from raylake.ingest.build_consumer import build_maker, lost_letters
from raylake.ingest.made import Made
from raylake.ingest.plan import RunPlan
from raylake.ingest.ports import TableView
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.kafka.port import FetchedBatch
from raylake.kafka.records import FETCH_SCHEMA

PIPELINE = "small"


class SmallPipeline:
    """One pipeline file and its lake."""

    def __init__(self, folder: Path, **table: Any) -> None:
        self.folder = folder
        self.file = folder / "small.yaml"
        self.lake = folder / "lake"
        self.write(**table)

    def write(self, key: str = "t", **table: Any) -> None:
        """The file as it is from now on."""
        section = {"topics": ["t"], "schema": {"id": "long"}, **table}
        document = {
            "pipeline": PIPELINE,
            "lake": str(self.lake),
            "kafka": {"bootstrap": "localhost:1"},
            "bronze": {key: section},
            "ingest": {"durability": "none", "takeover_after": "0s"},
        }
        self.file.write_text(yaml.safe_dump(document))

    @property
    def loaded(self) -> Loaded:
        return load(self.file)

    def ingest(
        self,
        values: Sequence[bytes | None],
        start: int = 0,
        *,
        name: str = "bronze.t",
        topic: str = "t",
        release: bool = True,
        **lost: int,
    ) -> OwnedTable:
        """Records of one partition become rows and dead letters, as a consumer makes them."""
        config, clock = self.loaded.config, SystemClock()
        source = SourcePartition(topic, f"id-of-{topic}", 0)
        plan = plan_of(config, name, [topic])
        assert plan is not None
        run = RunPlan(config, "", "", "run")
        maker = build_maker(run, plan, clock)
        spec = plan.spec(plan.configured_payload, config)
        me = OwnerIdentity.of_this_process(PIPELINE, "run")
        letters = DeadLetterTable.attach(
            dead_letter_path(config), me, clock=clock, durability="none"
        )
        owner = OwnedTable.attach(spec, me, clock=clock, durability="none")
        owner.admit({source: start})
        view = TableView(owner.table_id, owner.schema, owner.fingerprint, owner.watermark_ms)
        maker.fit(view)
        end = start + len(values)
        batch = FetchedBatch(source, start, end, records(values, start), -1, 1)
        made = maker.make(batch, owner.watermark_ms)
        assert isinstance(made, Made)
        dead = [] if made.dead is None else [made.dead]
        counts = Counts(made.rows.num_rows, len(made.dead_rows))
        if lost:
            letter = lost_letters(run, plan, clock)
            assert letter is not None
            dead.append(letter(source, end, end + lost["lost"], "gone"))
            counts = Counts(counts.rows, counts.dead, lost=lost["lost"])
            end += lost["lost"]
        unit = Unit(
            PIPELINE,
            "consumer-0",
            1,
            fingerprint(owner.schema),
            (OffsetRange(source, start, end, counts, max_event_ms=made.max_event_ms),),
            maker.write_rows([made.rows], owner.schema),
            maker.write_dead(dead, "u") if dead else (),
        )
        (outcome,) = owner.commit([unit], watermark=lambda _: made.max_event_ms)
        assert outcome.status == "committed", outcome
        stored = letters.stored_version(owner.table_id)
        letters.redo(owner.table_id, owner.pending_dead_letters(stored))
        if release:
            owner.release()
            letters.release()
        return owner

    def verify(self, level: str = "data") -> PipelineReport:
        config = self.loaded.config
        tables = pipeline_tables(config)
        options = VerifyOptions(level)
        report = verify_pipeline(tables, dead_letter_path(config), PIPELINE, options)
        assert report.ok, report.all_findings()
        return report

    def rows(self, name: str = "t") -> pl.DataFrame:
        return pl.read_delta(str(self.lake / "bronze" / name)).sort("_offset")

    def letters(self) -> Mapping[int, dict[str, Any]]:
        frame = pl.read_delta(dead_letter_path(self.loaded.config)).sort("offset")
        return {one["offset"]: one for one in frame.to_dicts()}

    def fix(self, body: str) -> str:
        file = self.folder / "fixes.py"
        file.write_text(f"import dataclasses\n\ndef mend(letter):\n{body}\n")
        return f"{file}:mend"


def records(values: Sequence[bytes | None], start: int) -> pa.RecordBatch:
    count = len(values)
    columns = [
        pa.array(range(start, start + count), pa.int64()),
        pa.array([1_700_000_000_000 + n for n in range(count)], pa.int64()),
        pa.array([b"k%d" % n for n in range(count)], pa.binary()),
        pa.array(values, pa.binary()),
        pa.array([[{"key": "h", "value": b"v"}]] * count, FETCH_SCHEMA.field("headers").type),
    ]
    return pa.record_batch(columns, schema=FETCH_SCHEMA)
