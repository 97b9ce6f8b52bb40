"""Dead letters as records: what they say, and those that a topic does not take whole (B3)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from kafka import errors as kafka_errors

from raylake.delta.dead_letters import DEAD_LETTER_PARTITION_BY, DEAD_LETTER_SCHEMA
from raylake.delta.files import write_data_files
from raylake.errors import Retryable
from raylake.kafka import letters
from raylake.kafka.connection import Connection
from raylake.kafka.letters import KafkaTarget

AT = dt.datetime(2026, 11, 22, 15, tzinfo=dt.UTC)


class Sent:
    """An answer that is there already."""

    def __init__(self, exception: Exception | None) -> None:
        self.exception = exception

    def succeeded(self) -> bool:
        return self.exception is None


class Producer:
    """Keeps what it gets; takes no value above 100 bytes, and says so early above 1,000."""

    made: ClassVar[list[Producer]] = []

    def __init__(self, **settings: Any) -> None:
        assert settings["acks"] == "all"
        self.records: list[dict[str, Any]] = []
        self.fails = False
        self.closed = False
        Producer.made.append(self)

    def send(self, topic: str, **record: Any) -> Sent:
        assert topic == "dead"
        size = len(record["value"] or b"")
        if size > 1000:
            raise kafka_errors.MessageSizeTooLargeError("too large for this client")
        if size > 100:
            return Sent(kafka_errors.MessageSizeTooLargeError("too large for the topic"))
        if self.fails:
            return Sent(kafka_errors.KafkaTimeoutError("nobody answered"))
        self.records.append(record)
        return Sent(None)

    def flush(self, timeout: float) -> None:
        assert timeout > 0

    def close(self, timeout: float) -> None:
        self.closed = True


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> KafkaTarget:
    Producer.made = []
    monkeypatch.setattr(letters, "KafkaProducer", Producer)
    return KafkaTarget(Connection("localhost:1"), "dead")


def taken(target: KafkaTarget, folder: Path, values: list[bytes | None]) -> int:
    """The target takes a file of letters with these values."""
    count = len(values)
    columns: dict[str, list[Any]] = {
        "topic": ["t"] * count,
        "partition": [3] * count,
        "offset": list(range(count)),
        "key": [b"k"] * count,
        "value": values,
        "headers": [[{"key": "from", "value": None}]] * count,
        "failed_at": [AT] * count,
        "stage": ["decode"] * count,
        "date": [AT.date()] * count,
    }
    arrays = [pa.array(columns.get(f.name, [None] * count), f.type) for f in DEAD_LETTER_SCHEMA]
    table = pa.table(arrays, schema=DEAD_LETTER_SCHEMA)
    (file,) = write_data_files(folder, table, DEAD_LETTER_SCHEMA, DEAD_LETTER_PARTITION_BY)
    return target.take(folder, file.path, file.partition_values)


@pytest.mark.spec("B3")
def test_a_record_has_its_bytes_and_says_where_it_is_from(
    target: KafkaTarget, tmp_path: Path
) -> None:
    assert taken(target, tmp_path, [b"{", None]) == 2
    first, tombstone = Producer.made[0].records
    assert (first["key"], first["value"], tombstone["value"]) == (b"k", b"{", None)
    assert first["headers"] == [
        ("from", None),
        ("raylake.topic", b"t"),
        ("raylake.partition", b"3"),
        ("raylake.offset", b"0"),
        ("raylake.stage", b"decode"),
        ("raylake.failed_at", b"2026-11-22T15:00:00+00:00"),
    ]


@pytest.mark.spec("B3")
def test_a_letter_that_is_too_large_comes_without_its_value(
    target: KafkaTarget, tmp_path: Path
) -> None:
    assert taken(target, tmp_path, [b"x" * 500, b"y", b"z" * 5000]) == 3
    found = {dict(one["headers"])["raylake.offset"]: one for one in Producer.made[0].records}
    assert found[b"1"]["value"] == b"y"
    for offset, size in ((b"0", b"500"), (b"2", b"5000")):
        assert found[offset]["value"] is None
        assert dict(found[offset]["headers"])["raylake.value_left_out"] == size


@pytest.mark.spec("B3")
def test_what_is_not_acknowledged_is_produced_again_by_another_producer(
    target: KafkaTarget, tmp_path: Path
) -> None:
    assert taken(target, tmp_path, [b"a"]) == 1
    Producer.made[0].fails = True
    with pytest.raises(Retryable, match="1 dead letters were not acknowledged by 'dead'"):
        taken(target, tmp_path, [b"b"])
    assert Producer.made[0].closed
    assert taken(target, tmp_path, [b"b"]) == 1
    assert [one["value"] for one in Producer.made[1].records] == [b"b"]
