"""Messages of 100 MB, and Ray's memory monitor: what a run holds, and what it survives."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ray._private.utils import get_system_memory, get_used_memory

from raylake.demo.record import RecordWriter
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope

MB = 10**6
KINDS = ("supervisor", "consumer", "owner", "dead_letters")

RUN_BYTES = 1500 * MB
"""What an embedded cluster and its run add to the machine's memory, roughly."""
MARGIN_BYTES = 1000 * MB
"""What is free below the threshold then: other tests start and end meanwhile."""
STEP_BYTES = 64 * MB
MOST_STEPS = 3000 * MB // STEP_BYTES

BALLOON = """
import sys
held = []
while sys.stdin.buffer.read(1):
    held.append(b"x" * int(sys.argv[1]))
"""


class Balloon:
    """A process that takes memory, step by step and no more than 3 GB of it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._steps = 0

    def grow(self) -> None:
        """Take one step more, if it may."""
        if self._process.stdin is not None and self._steps < MOST_STEPS:
            self._process.stdin.write(b"x")
            self._process.stdin.flush()
            self._steps += 1


@contextmanager
def balloon() -> Iterator[Balloon]:
    """A balloon; its memory is free when the block ends."""
    command = [sys.executable, "-c", BALLOON, str(STEP_BYTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield Balloon(process)
        finally:
            process.kill()


def produce_large(scope: Scope, partitions: list[int], size_bytes: int = 100 * MB) -> None:
    """Produce one message of this size to each of these partitions: JSON that does not compress."""
    record = scope.folder / f"record-{len(scope.records)}.parquet"
    noise = random.Random(38)
    producer = scope.broker.producer(
        acks="all", request_timeout_ms=60_000, max_request_size=2 * size_bytes
    )
    head, tail = b'{"id": 1, "note": "', b'"}'
    wanted = size_bytes - len(head) - len(tail)
    with RecordWriter(record, scope.topic) as writer:
        for partition in partitions:
            value = head + base64.b64encode(noise.randbytes(wanted))[:wanted] + tail
            place = producer.send(scope.topic, value, partition=partition).get(timeout=60)
            writer.add(place.partition, place.offset, value, "too large", "dead")
    producer.close()
    scope.records.append(record)
    scope.produced += len(partitions)


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had resident, as the kernel counts it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def plasma_bytes(job: int) -> int:
    """The bytes of an embedded cluster's object store that were ever written to."""
    raylets = [p for p in psutil.Process(job).children(recursive=True) if p.name() == "raylet"]
    opened = [one for raylet in raylets for one in Path(f"/proc/{raylet.pid}/fd").iterdir()]
    stores = [one for one in opened if "plasma" in str(one.readlink())]
    assert stores, "the object store was not found"
    return sum(one.stat().st_blocks * 512 for one in stores)


@pytest.mark.spec("A4", "A8")
@pytest.mark.parametrize(
    "places",
    [
        pytest.param([0], id="one"),
        pytest.param([0, 1, 0, 0], id="four", marks=pytest.mark.long),
    ],
)
def test_failure_38_messages_of_100_mb_stay_within_a_gigabyte_and_pass_no_object_store(
    make_scope: MakeScope, places: list[int]
) -> None:
    scope = make_scope(cluster=None)
    scope.pipeline({"max_batch_bytes": "64MiB"}, ingest={"buffer": "64MiB"})
    scope.produce(1000)
    produce_large(scope, places)
    scope.produce(1000)
    job = scope.start()
    scope.until_caught_up()
    scope.run_until(lambda: bool(scope.pids("dead_letters")), "the dead letters' process came")
    peaks = {kind: max(map(peak_bytes, scope.pids(kind))) for kind in KINDS}
    # Once in its hands such a message is the consumer's alone.
    assert 400 * MB < peaks.pop("consumer") < 2**30
    assert max(peaks.values()) < 300 * MB
    assert plasma_bytes(job.process.pid) < MB
    job.stop()
    report = scope.audit()
    assert (report.rows, report.dead_letters) == (2000, len(places))
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A3", "A8")
def test_failure_38_what_the_memory_monitor_kills_is_replaced_and_all_is_exact(
    make_scope: MakeScope,
) -> None:
    """Ray 2.60 kills all four processes of the run at once."""
    scope = make_scope(cluster=None)
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        threshold = (get_used_memory() + RUN_BYTES + MARGIN_BYTES) / get_system_memory()
        job = scope.start(
            RAYLAKE_RAY_DIR=folder,
            RAY_memory_usage_threshold=f"{threshold:.4f}",
            RAY_memory_monitor_refresh_ms="50",
        )
        scope.produce(1000, DIRTY)
        scope.until_caught_up()
        running = {pid for kind in KINDS for pid in scope.pids(kind)}
        with scope.load(DIRTY):
            with balloon() as memory:

                def killed() -> set[int]:
                    gone = {pid for pid in running if not psutil.pid_exists(pid)}
                    if not gone:
                        memory.grow()
                    return gone

                scope.run_until(killed, "the memory monitor killed a process", 60)
                scope.hit("memory monitor")
            scope.run_until(lambda: all(map(scope.pids, KINDS)), "all processes run again")
        scope.until_caught_up()
        (said,) = Path(folder).glob("session_2*/logs/raylet.out")
        assert "exceeded threshold" in said.read_text(), "it was not the memory monitor"
        job.stop()
    scope.audit()
    scope.verify("all")
