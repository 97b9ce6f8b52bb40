"""A topic is taken over half-way from a Spark Structured Streaming job: 0 lost, 0 doubled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from raylake.cli.main import main
from raylake.kafka.artifacts import cache_folder, file_lock
from tests.harness.broker import LiveBroker
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import make_bench
from tests.integration.pipeline.records import Record, produce
from tests.integration.spark.test_raydp_smoke import ROOT, _environment, _java_17

BATCHES_SEEN = 6
HALF = 1500
_TIMEOUT_S = 240.0

__all__ = ["make_bench"]


def _done(checkpoint: Path) -> int:
    folder = checkpoint / "commits"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=-1)


def _run_until(
    stop: Callable[[], bool], broker: LiveBroker, topic: str, place: tuple[Path, Path]
) -> None:
    """Run the query, and kill it in the middle of whatever it does."""
    table, checkpoint = place
    java = _java_17()
    arguments = [broker.bootstrap, topic, str(table), str(checkpoint), str(cache_folder() / "ivy")]
    log = table.with_suffix(".log")
    with file_lock(cache_folder() / "ivy.lock"), log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.spark.stream_topic", *arguments],
            cwd=ROOT,
            env=_environment(java),
            stdout=out,
            stderr=out,
            process_group=0,
        )

        def reached() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            return stop()

        try:
            until(reached, "Spark's batches", _TIMEOUT_S)
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
            for child in family:
                if child.is_running():
                    child.kill()
            process.wait()


def _older(checkpoint: Path, copy: Path) -> Path:
    """The checkpoint as it was three batches ago."""
    shutil.copytree(checkpoint, copy)
    kept = _done(checkpoint) - 3
    for name in ("offsets", "commits"):
        for path in (copy / name).iterdir():
            if path.name.isdecimal() and int(path.name) > kept:
                path.unlink()
    return copy


@pytest.mark.long
@pytest.mark.spec("A13", "A14")
def test_a_topic_taken_over_from_a_killed_spark_job_has_each_record_once(
    broker: LiveBroker,
    make_bench: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = broker.create_topic("spark", partitions=2)
    records = [Record({"id": n}, partition=n % 2) for n in range(2 * HALF)]
    produce(broker, topic, records[:HALF])
    table, checkpoint = tmp_path / "theirs", tmp_path / "checkpoint"
    _run_until(lambda: _done(checkpoint) >= BATCHES_SEEN, broker, topic, (table, checkpoint))
    produce(broker, topic, records[HALF:])

    bench = make_bench()
    bench.write({"ours": {"topics": [topic], "schema": {"id": "long"}, "start": "latest"}})
    order = ["adopt", str(bench.file), "bronze.ours", "--from", "spark-checkpoint"]
    order += ["--with", f"sink={table}", "-o", "json", "--source"]
    capsys.readouterr()
    assert main([*order, str(_older(checkpoint, tmp_path / "older"))]) == 5
    assert "the checkpoint is older than the table" in capsys.readouterr().err
    assert main([*order, str(checkpoint)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["adopted"]["batch"] >= BATCHES_SEEN
    assert sum(one["next"] for one in said["partitions"]) < HALF, "it is half-way"
    bench.drain()
    bench.verify()

    theirs = pl.read_delta(str(table)).select("partition", "offset").rows()
    ours = bench.rows("ours").select("_partition", "_offset").rows()
    assert theirs
    assert ours
    found = Counter([*theirs, *ours])
    wanted = {(n % 2, n // 2) for n in range(2 * HALF)}
    assert set(found) == wanted, "lost, or from nowhere"
    assert set(found.values()) == {1}, "doubled"
