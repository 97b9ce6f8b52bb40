"""The generator on a real broker: its record is exactly what a reader of the topic finds."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, TopicPartition

from raylake.demo.events import StreamPlan
from raylake.demo.generate import Job, create_topic, main, produce
from raylake.errors import DependencyUnreachable, Refused
from tests.harness.broker import LiveBroker

COUNT = 21_001
Found = dict[tuple[int, int], tuple[bytes | None, bytes | None, int]]


def plan() -> StreamPlan:
    return StreamPlan(seed=5, count=COUNT, start_ms=int(time.time() * 1000) - 3_600_000)


def read_topic(bootstrap: str, topic: str, isolation: str) -> Found:
    """Coordinates → key, value, timestamp of all records up to the end of the topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    found: Found = {}
    try:
        partitions = [TopicPartition(topic, p) for p in range(4)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        deadline = time.monotonic() + 60
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            assert time.monotonic() < deadline, "the topic could not be read to its end"
            for tp, records in consumer.poll(timeout_ms=500, max_records=5_000).items():
                for r in records:
                    found[tp.partition, r.offset] = (r.key, r.value, r.timestamp)
    finally:
        consumer.close()
    return found


def recorded(*files: Path) -> dict[tuple[int, int], dict[str, Any]]:
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    by_place = {(row["partition"], row["offset"]): row for row in rows}
    assert len(by_place) == len(rows)
    return by_place


def md5(value: bytes | None) -> bytes | None:
    return None if value is None else hashlib.md5(value).digest()


@pytest.mark.spec("K3")
def test_the_record_is_what_is_in_the_topic(broker: LiveBroker, tmp_path: Path) -> None:
    topic = broker.create_topic("generated", partitions=4)
    job = Job(broker.bootstrap, topic, plan(), tmp_path / "record.parquet")
    progress: list[int] = []
    produced = produce(job, progress.append)
    record = recorded(job.record)
    assert produced.records == len(record) == COUNT
    assert produced.by_fate["aborted"] > 50
    assert produced.by_fate["dead"] > 50
    everything = read_topic(broker.bootstrap, topic, "read_uncommitted")
    assert {place: md5(value) for place, (_, value, _) in everything.items()} == {
        place: row["md5"] for place, row in record.items()
    }
    committed = read_topic(broker.bootstrap, topic, "read_committed")
    assert set(committed) == {p for p, row in record.items() if row["fate"] != "aborted"}
    nulls = {p for p, (_, value, _) in committed.items() if value is None}
    assert nulls == {p for p, row in record.items() if row["kind"] == "tombstone"}
    assert all(committed[place][0] for place in nulls), "a tombstone without a key"


def test_two_processes_make_the_same_stream(broker: LiveBroker, tmp_path: Path) -> None:
    whole = broker.create_topic("whole", partitions=4)
    shared = broker.create_topic("shared", partitions=4)
    stream = plan()
    produce(Job(broker.bootstrap, whole, stream, tmp_path / "whole.parquet"))
    files = [tmp_path / f"shard{n}.parquet" for n in (0, 1)]
    common = ["--bootstrap", broker.bootstrap, "--topic", shared, "--count", str(COUNT)]
    common += ["--seed", "5", "--start-ms", str(stream.start_ms)]
    program = [sys.executable, "-m", "raylake.demo.generate"]
    children = [
        subprocess.Popen(
            [*program, *common, "--record", str(file), "--shard", f"{n}/2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n, file in enumerate(files)
    ]
    summaries = []
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        summaries.append(json.loads(output.splitlines()[-1]))
    assert sum(summary["produced"] for summary in summaries) == COUNT
    one = sorted((r["partition"], r["md5"] or b"", r["fate"]) for r in recorded(
        tmp_path / "whole.parquet").values())  # fmt: skip
    two = sorted((r["partition"], r["md5"] or b"", r["fate"]) for r in recorded(*files).values())
    assert one == two


def test_an_existing_topic_is_refused(broker: LiveBroker) -> None:
    topic = broker.create_topic("there", partitions=4)
    with pytest.raises(Refused, match=topic):
        create_topic(broker.bootstrap, topic, 4)


def test_an_unreachable_broker_is_named_and_leaves_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.parquet"
    arguments = ["--bootstrap", "127.0.0.1:9", "--topic", "t", "--count", "10"]
    arguments += ["--connect-timeout-s", "1"]
    assert main([*arguments, "--record", str(record)]) == DependencyUnreachable.exit_code
    assert "127.0.0.1:9" in capsys.readouterr().err
    assert not record.exists()


def test_shards_need_a_common_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bootstrap", "127.0.0.1:9", "--topic", "t", "--record", str(tmp_path / "r")]
    assert main([*arguments, "--shard", "0/2"]) == 2
    assert main([*arguments, "--shard", "2/2"]) == 2
    assert "--start-ms" in capsys.readouterr().err
