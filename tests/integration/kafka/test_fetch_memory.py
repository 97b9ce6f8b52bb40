"""What a fetch holds in memory is bounded by bytes after decompression, not by luck."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from raylake.kafka.fetch import FetchSettings
from tests.harness.broker import LiveBroker
from tests.integration.kafka.reading import reading

MIB = 1024 * 1024
PLAIN_IN_LONG = pytest.mark.parametrize(
    "kind", ["columnar", pytest.param("plain", marks=pytest.mark.long)], indirect=True
)
LARGE = {"max.message.bytes": str(90 * MIB)}

# Peak memory is a fact of a whole process, so the reading is done in one of its own.
CHILD = """
import json, sys
from raylake.kafka.client import Cluster
from raylake.kafka.fetch import ColumnarFetcher, Connection, PollFetcher, Position

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))

kind, bootstrap, topic = sys.argv[1:]
cluster = Cluster(bootstrap)
(source,) = cluster.topics([topic])[topic].sources()
end = cluster.latest([source])[source]
fetcher = {"plain": PollFetcher, "columnar": ColumnarFetcher}[kind](Connection(bootstrap))
fetcher.assign({source: Position(0)})
fetcher.fetch(0.0)
before, rows, total, largest = status("VmRSS"), 0, 0, 0
while fetcher.positions()[source].offset < end:
    for batch in fetcher.fetch(1.0):
        rows += batch.records.num_rows
        total += batch.nbytes
        largest = max(largest, batch.nbytes)
        del batch
fetcher.close()
print(json.dumps({"before": before, "peak": status("VmHWM"), "rows": rows,
                  "total": total // 2**20, "largest": largest // 2**20}))
"""


# One batch of the size that a topic allows by default, 512 MiB when it is decompressed.
BOMB = """
import json, struct, zlib
import crc32c
from kafka import TopicPartition
from kafka.consumer.fetcher import IsolationLevel
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import encode_varint
from raylake.kafka.bounded import Budget
from raylake.kafka.columnar import columnar_form

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))

def varint(number):
    found = bytearray()
    encode_varint(number, found.append)
    return bytes(found)

COUNT, SIZE = 8192, 64 * 1024
stream = zlib.compressobj(1, wbits=31)
packed = []
for n in range(COUNT):
    record = bytes(2) + varint(n) + varint(-1) + varint(SIZE) + bytes(SIZE) + varint(0)
    packed.append(stream.compress(varint(len(record)) + record))
data = b"".join([*packed, stream.flush()])
covered = struct.pack(">hiqqqhii", 1, COUNT - 1, 0, 0, -1, -1, -1, COUNT) + data
head = struct.pack(">qiibI", 0, len(covered) + 9, 0, 2, crc32c.crc32c(covered))
form, budget, rows = columnar_form(), Budget(), 0
part = form.part(budget, -1, 0, TopicPartition("t", 0), MemoryRecords(head + covered),
                 isolation_level=IsolationLevel.READ_COMMITTED)
before, largest = status("VmRSS"), 0
while part:
    budget.left_bytes = 16 * 2**20
    batch = form.batch(part.take(10**6), 0)
    rows += batch.num_rows
    largest = max(largest, batch.nbytes)
print(json.dumps({"before": before, "peak": status("VmHWM"), "rows": rows,
                  "packed": len(data), "largest": largest // 2**20}))
"""


def read_in_a_child(kind: str, bootstrap: str, topic: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, bootstrap, topic],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_failure_14_one_batch_of_512_mib_is_held_a_part_at_a_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=120, check=True
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 8192
    assert found["packed"] < 5 * MIB
    assert found["largest"] <= 17
    # Parts of 8 MiB: one read, one ahead, both put together; and the rows that were asked for.
    assert found["peak"] - found["before"] < 128, found


def write(broker: LiveBroker, topic: str, values: list[bytes], codec: str | None) -> None:
    producer = broker.producer(
        max_request_size=90 * MIB,
        batch_size=80 * MIB,
        linger_ms=500,
        compression_type=codec,
    )
    for value in values:
        producer.send(topic, value=value)
    producer.close()


@PLAIN_IN_LONG
def test_failure_14_records_of_64_mib_come_one_at_a_time(broker: LiveBroker, kind: str) -> None:
    topic = broker.create_topic(config=LARGE)
    for _ in range(3):
        write(broker, topic, [b"x" * (64 * MIB)], None)
    found = read_in_a_child(kind, broker.bootstrap, topic)
    assert found["rows"] == 3
    assert found["largest"] == 64
    assert found["peak"] - found["before"] < 8 * 64, found


@PLAIN_IN_LONG
def test_failure_14_batches_compressed_a_thousand_to_one_stay_bounded(
    broker: LiveBroker, kind: str
) -> None:
    topic = broker.create_topic(config=LARGE)
    for _ in range(8):
        write(broker, topic, [b"\0" * (64 * 1024)] * 1000, "gzip")
    found = read_in_a_child(kind, broker.bootstrap, topic)
    assert found["rows"] == 8000
    assert found["total"] >= 500
    assert found["largest"] <= 17
    assert found["peak"] - found["before"] < 5 * 64, found


@pytest.mark.usefixtures("kind")
def test_one_call_stops_at_the_bytes_asked_for(broker: LiveBroker) -> None:
    topic = broker.create_topic()
    write(broker, topic, [b"%0100d" % n for n in range(1000)], "gzip")
    with reading(broker.bootstrap, topic, settings=FetchSettings(max_bytes=2000)) as scope:
        scope.until_caught_up()
        counts = [batch.records.num_rows for batch in scope.batches[scope.sources[0]]]
        # 100 bytes and an allowance for the record itself: the 20th is the one that passes.
        assert max(counts) == 20
        assert scope.column("offset") == list(range(1000))
