"""``raylake rewind`` as a process that may be slow, be killed or fail late, against the broker."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from typing import Any

import pytest
from deltalake import DeltaTable
from kafka import TopicPartition

import raylake
from raylake import faults
from raylake.config import dead_letter_path, load
from raylake.delta.verify import TableToVerify, verify_pipeline
from raylake.tables.errors import OwnerOnly
from tests.harness.broker import LiveBroker
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import ROOT, Bench, MakeBench
from tests.integration.pipeline.records import Record, offsets, produce

# What a rewind does as it is meant, and what it leaves when it is interrupted, is shown by
# `test_taking_over.py` and `tests/integration/verify/test_interrupted_rewinds.py`.
pytestmark = pytest.mark.long
COUNT = 40
POISON = (25, 33)
BACK_TO = 20
FOREVER = {"retention.ms": "-1"}
RUN_TIMEOUT_S = 60.0


class Rewinding:
    """One command under way."""

    def __init__(self, bench: Bench, *arguments: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "raylake.cli.main", "rewind", str(bench.file)),
                *("bronze.t", "-o", "json", *arguments),
            ],
            env={**inherited, faults.ENV: str(bench.faults), "PYTHONPATH": str(ROOT)},
            cwd=bench.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ends(self) -> tuple[int, dict[str, Any]]:
        """Its exit code, and its document or the error's."""
        out, err = self.process.communicate(timeout=RUN_TIMEOUT_S)
        document: dict[str, Any] = json.loads(out or err or "{}")
        return self.process.returncode, document.get("error") or document


def made(make_bench: MakeBench, broker: LiveBroker, **config: str) -> tuple[Bench, str]:
    """A table of 40 offsets, two of them dead letters; and its topic."""
    topic = broker.create_topic("rewound", config={**FOREVER, **config})
    values: list[Any] = [b"{no" if n in POISON else {"id": n} for n in range(COUNT)]
    # Every key of its own: nothing is compacted away, where the topic is.
    produce(broker, topic, [Record(one, key=b"k%d" % n) for n, one in enumerate(values)])
    bench = make_bench()
    table = {"topics": [topic], "schema": {"id": "long"}}
    bench.write({"t": table}, ingest={"takeover_after": "1s"})
    bench.drain()
    return bench, topic


def to(topic: str, end: int = BACK_TO) -> tuple[str, ...]:
    return ("--to", f"{topic}[0]={end}")


def letters(bench: Bench) -> list[int]:
    return sorted(bench.letters["offset"].to_list())


def notices(bench: Bench) -> list[str]:
    """What verify names, although all of it balances."""
    config = load(bench.file).config
    table = TableToVerify(str(bench.table("t")), "bronze.t")
    report = verify_pipeline([table], dead_letter_path(config), bench.name)
    assert report.ok, report.all_findings()
    return [one.kind for one in report.all_findings()]


@pytest.mark.spec("A13")
@pytest.mark.parametrize("then", ["a run", "another rewind"])
def test_a_rewind_that_was_killed_after_its_commit_is_finished_by_whoever_comes_next(
    make_bench: MakeBench, broker: LiveBroker, then: str
) -> None:
    bench, topic = made(make_bench, broker)
    bench.arm("owner.after_commit", "kill", match={"kind": "rewind"})
    assert Rewinding(bench, *to(topic), "--replace").ends()[0] == -signal.SIGKILL
    assert offsets(bench.rows("t")) == list(range(BACK_TO))
    assert (letters(bench), notices(bench)) == ([*POISON], ["dead_letters_leaving"])
    if then == "another rewind":
        code, said = Rewinding(bench, *to(topic, 10), "--replace", "--dry-run").ends()
        assert (code, said["code"]) == (5, "refused"), said
        code, said = Rewinding(bench, *to(topic, 10), "--replace").ends()
        assert (code, said["warnings"]) == (0, []), said
        assert (letters(bench), notices(bench)) == ([], [])
    bench.drain()
    assert offsets(bench.rows("t")) == [n for n in range(COUNT) if n not in POISON]
    assert (letters(bench), notices(bench)) == ([*POISON], [])
    bench.verify()
    configuration = DeltaTable(bench.table("t")).metadata().configuration
    assert configuration["delta.appendOnly"] == "true"


@pytest.mark.spec("C4", "A13")
def test_a_table_goes_back_to_one_of_its_versions(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    bench, topic = made(make_bench, broker)
    version = DeltaTable(bench.table("t")).version()
    produce(broker, topic, [b"{no", *({"id": n} for n in range(COUNT, COUNT + 5))])
    bench.drain()
    table = raylake.connect(str(bench.lake)).table("bronze.t")
    for refused in (table.restore, table.plan_restore):
        with pytest.raises(OwnerOnly) as caught:
            refused(version)
        said = re.search("`(raylake rewind FILE [^`]+)`", caught.value.hint)
        assert said is not None, caught.value.hint
    # As it stands there, with the file's name in it.
    words = shlex.split(said[1])
    assert words[:4] == ["raylake", "rewind", "FILE", "bronze.t"]
    code, done = Rewinding(bench, *words[4:]).ends()
    assert code == 0, done
    then = table.read(version=version).to_arrow().column("_offset")
    assert offsets(bench.rows("t")) == sorted(then.to_pylist())
    assert letters(bench) == [*POISON]
    bench.verify()

    bench.drain()
    assert len(bench.rows("t")) == COUNT + 5 - len(POISON)
    to_version = ("--to", f"version:{version}", "--replace")
    code, done = Rewinding(bench, *to_version).ends()
    assert code == 0, done
    assert offsets(bench.rows("t")) == sorted(then.to_pylist())
    bench.verify()
    # It stands there: nothing is to be done, and there is no such version.
    assert Rewinding(bench, *to_version).ends()[1]["partitions"] == []
    assert Rewinding(bench, "--to", "version:99").ends()[1]["code"] == "version_unknown"
    # Forward is no rewind.
    newer = Rewinding(bench, "--to", f"version:{version + 2}", "--replace").ends()
    assert (newer[0], newer[1]["code"]) == (5, "refused"), newer


@pytest.mark.spec("A13")
def test_a_run_that_begins_while_a_rewind_is_prepared_goes_on_and_the_rewind_gives_way(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    """The rewind stands still for longer than ``takeover_after``, as with a very large table."""
    bench, topic = made(make_bench, broker)
    bench.arm("rewind.surveyed", "stop")
    rewinding = Rewinding(bench, *to(topic), "--replace")
    until(bench.fired, "the rewind stands still", RUN_TIMEOUT_S)
    produce(broker, topic, [{"id": n} for n in range(COUNT, COUNT + 5)])
    bench.drain()
    rewinding.process.send_signal(signal.SIGCONT)
    code, said = rewinding.ends()
    assert (code, said["code"]) == (5, "refused"), said
    assert "came while the rewind was being prepared" in said["message"]
    assert len(bench.rows("t")) == COUNT + 5 - len(POISON)
    bench.verify()
    code, said = Rewinding(bench, *to(topic), "--replace").ends()
    assert code == 0, said
    bench.verify()


def test_offsets_that_leave_kafka_while_a_rewind_is_prepared_are_not_taken_out_of_the_table(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    bench, topic = made(make_bench, broker)
    bench.arm("rewind.surveyed", "stop")
    rewinding = Rewinding(bench, *to(topic), "--replace")
    until(bench.fired, "the rewind stands still", RUN_TIMEOUT_S)
    broker.admin.delete_records({TopicPartition(topic, 0): BACK_TO + 2})
    rewinding.process.send_signal(signal.SIGCONT)
    code, said = rewinding.ends()
    assert (code, said["code"]) == (5, "offsets_lost"), said
    assert "2 offsets are gone" in said["message"]
    assert len(bench.rows("t")) == COUNT - len(POISON)
    bench.verify()


@pytest.mark.parametrize(
    ("kind", "left"), [("release", "was not released"), ("withdraw", "with the next run or rewind")]
)
def test_a_rewind_that_is_done_is_not_told_as_failed(
    make_bench: MakeBench, broker: LiveBroker, kind: str, left: str
) -> None:
    """Nobody disturbs it, so that it may also take longer than ``takeover_after``."""
    bench, topic = made(make_bench, broker)
    bench.arm("rewind.surveyed", "delay", delay_s=1.5)
    bench.arm("owner.after_check", "error", match={"kind": kind})
    code, said = Rewinding(bench, *to(topic), "--replace").ends()
    assert (code, said["partitions"][0]["next"]) == (0, BACK_TO), said
    (warning,) = said["warnings"]
    assert left in warning
    assert len(bench.fired()) == 2
    assert offsets(bench.rows("t")) == list(range(BACK_TO))
    bench.verify()


@pytest.mark.spec("A13")
def test_a_compacted_topic_is_gone_back_on_only_when_that_is_said(
    make_bench: MakeBench, broker: LiveBroker
) -> None:
    bench, topic = made(make_bench, broker, **{"cleanup.policy": "compact,delete"})
    code, said = Rewinding(bench, *to(topic), "--replace").ends()
    assert (code, said["code"]) == (5, "refused"), said
    assert "up to 18 rows and 2 dead letters" in said["message"]
    assert said["context"]["compacted"] == [topic]
    assert "--replace-compacted" in said["hint"]
    assert len(bench.rows("t")) == COUNT - len(POISON)
    code, said = Rewinding(bench, *to(topic), "--replace-compacted").ends()
    assert code == 0, said
    bench.verify()
