"""Dead letters are replayed beside a run and without one, and each offset is counted once (B4)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition

from raylake import faults
from raylake.client.dead_letters import Selection
from raylake.client.replays import replay
from raylake.clock import SystemClock
from raylake.config import dead_letter_path, load
from raylake.delta.log_files import commit_versions
from raylake.delta.verify import TableToVerify, VerifyOptions, verify_pipeline
from tests.harness.broker import LiveBroker
from tests.harness.typed import Type
from tests.harness.waiting import until
from tests.integration.pipeline.conftest import ROOT, Bench, MakeBench
from tests.integration.pipeline.records import Record, letters_of, offsets, produce, rows_of

COUNT = 40
BROKEN = {5: b"{no", 8: b'{"id": 8,}', 20: b'{"id": 20,}', 21: b"{21", 22: b"{22"}
EXTRA = (11, 12)
FIXES = """
import dataclasses

def mend(letter):
    if letter.offset == 20:
        raise ValueError("no idea")
    if letter.offset == 21:
        return 21
    if letter.offset == 22:
        return None
    if letter.offset in (5, 11, 12):
        return letter.value
    assert letter.headers == (("from", b"test"),) and letter.key == b"k8", letter
    return dataclasses.replace(letter, value=letter.value.replace(b",}", b"}"))
"""


def table(topic: str, **more: Any) -> dict[str, Any]:
    return {"topics": [topic], "schema": {"id": "long"}, "keep_value": True, **more}


@pytest.fixture(scope="module")
def topic(broker: LiveBroker) -> str:
    name = broker.create_topic("replayed")
    broker.create_named_topic(f"{name}.dead", 1, None)
    values = [BROKEN.get(n, {"id": n} | ({"extra": n} if n in EXTRA else {})) for n in range(COUNT)]
    headers = [("from", b"test")]
    produce(broker, name, [Record(v, b"k%d" % n, headers) for n, v in enumerate(values)])
    return name


def write(bench: Bench, topic: str, unknown_fields: str) -> None:
    """The pipeline's file; its dead letters go to a topic and to a folder besides."""
    also = {"kafka": {"topic": f"{topic}.dead"}, "files": {"path": str(bench.folder / "copies")}}
    letters = {"stop_above": "100%", "also": also}
    ingest = {"takeover_after": "1s"}
    bench.write(
        {"t": table(topic, unknown_fields=unknown_fields)}, ingest=ingest, dead_letters=letters
    )


@pytest.fixture(scope="module")
def bench(topic: str, make_bench: MakeBench) -> Bench:
    """A pipeline with seven dead letters, which does not run."""
    made = make_bench()
    write(made, topic, "reject")
    made.drain()
    shutil.copytree(made.lake, made.folder / "untouched")
    (made.folder / "fixes.py").write_text(FIXES)
    return made


def stages(folder: Path) -> dict[int, str]:
    frame = letters_of(folder)
    return dict(zip(frame["offset"].to_list(), frame["stage"].to_list(), strict=True))


@pytest.fixture
def copied(bench: Bench, tmp_path: Path) -> Path:
    """The pipeline's file, with a lake of its own as the run left it; new fields are welcome."""
    document = {**bench.document, "lake": str(tmp_path / "lake")}
    document["bronze"] = {"t": {**document["bronze"]["t"], "unknown_fields": "evolve"}}
    shutil.copytree(bench.folder / "untouched", tmp_path / "lake")
    (tmp_path / "fixes.py").write_text(FIXES)
    file = tmp_path / "copied.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


@pytest.mark.spec("B4", "A4")
def test_letters_become_rows_without_a_run_and_beside_one(
    bench: Bench, topic: str, broker: LiveBroker, type_: Type
) -> None:
    letters = Path(dead_letter_path(load(bench.file).config))
    fix = f"{bench.folder / 'fixes.py'}:mend"
    assert sorted(stages(letters)) == sorted({*BROKEN, *EXTRA})
    file = str(bench.file)

    code, said = type_("dlq", "replay", file, "--where", "reason = 'never'")
    assert (code, said["selected"], said["tables"]) == (0, 0, [])
    code, said = type_("dlq", "replay", file, "--where", "nothing = 1")
    assert (code, said["code"]) == (2, "unknown_column"), said
    code, said = type_("dlq", "replay", file, "--fix", "gone.py:mend")
    assert code == 2, said

    # Still refused, as the file is; the preview says so and changes nothing.
    before = [commit_versions(bench.table("t")), commit_versions(letters)]
    code, said = type_("dlq", "replay", file, "--fix", fix, "--preview")
    assert (code, said["rows"], said["failed"], said["tables"][0]["left"]) == (0, 1, 5, 1), said
    assert [commit_versions(bench.table("t")), commit_versions(letters)] == before

    # By today's file, with new fields welcome: without a run.
    write(bench, topic, "evolve")
    asked = ("dlq", "replay", file, "--where", '"offset" in (11, 12)')
    code, said = type_(*asked, "--preview")
    assert (code, said["rows"], said["tables"][0]["added"]) == (0, 2, ["extra"]), said
    code, said = type_(*asked)
    assert (code, said["rows"], said["failed"], said["by"]) == (0, 2, 0, "command"), said
    assert said["tables"][0]["warnings"] == []
    code, said = type_(*asked)
    assert (code, said["selected"]) == (0, 0), "replayed twice, it is one row"
    assert bench.rows("t").filter(pl.col("extra") > 0)["id"].to_list() == [*EXTRA]
    bench.verify()

    # Beside a run, which goes on reading.
    bench.start()
    produce(broker, topic, [{"id": n} for n in range(COUNT, COUNT + 10)])
    bench.until_accounted(t=COUNT + 10)
    code, said = type_("dlq", "replay", file, "--fix", fix)
    assert (code, said["by"], said["rows"], said["failed"]) == (0, "run", 1, 3), said
    (one,) = said["tables"]
    assert (one["left"], one["warnings"]) == (1, [])
    reasons = {failure["offset"]: failure["reason"] for failure in one["failures"]}
    assert "raised ValueError: no idea" in reasons[20]
    assert f"{topic}[0] offset 20" in reasons[20]
    assert "returned int, not bytes" in reasons[21]
    produce(broker, topic, [{"id": n} for n in range(COUNT + 10, COUNT + 20)])
    bench.until_accounted(t=COUNT + 20)
    bench.runs[-1].stop()

    found = stages(letters)
    assert {n: found[n] for n in (8, *EXTRA)} == dict.fromkeys((8, *EXTRA), "replayed")
    assert (found[20], found[21]) == ("fix", "fix")
    frame = letters_of(letters).filter(pl.col("offset") == 8)
    assert frame["value"].to_list() == [BROKEN[8]], "its bytes stay as they came"
    assert frame["fix"].to_list()[0].startswith(fix)
    assert frame["replay_id"].to_list() == [one["replay_id"]]
    assert offsets(bench.rows("t")) == [n for n in range(COUNT + 20) if n not in (5, 20, 21, 22)]
    bench.verify()
    code, said = type_("dlq", "stats", file)
    assert (code, said["total"]) == (0, 4), said
    code, said = type_("dlq", "show", file, "--replayed")
    assert sorted(one["offset"] for one in said["dead_letters"]) == [8, *EXTRA]


@pytest.mark.spec("B4", "A4")
@pytest.mark.parametrize(
    ("point", "match", "done"),
    [
        pytest.param("replay.written", {}, False, marks=pytest.mark.long),
        ("owner.after_check", {"kind": "replay"}, False),
        pytest.param("owner.after_commit", {"kind": "replay"}, True, marks=pytest.mark.long),
        pytest.param("dlq.before_commit", {}, True, marks=pytest.mark.long),
        pytest.param("owner.after_check", {"kind": "replayed"}, True, marks=pytest.mark.long),
        ("dlq.after_commit", {}, True),
    ],
)
def test_a_replay_that_is_killed_anywhere_gives_one_row_in_the_end(
    copied: Path, tmp_path: Path, point: str, match: dict[str, str], done: bool
) -> None:
    faults.arm(tmp_path / "faults", point, match=match)
    arguments = ["dlq", "replay", str(copied), "--fix", f"{tmp_path / 'fixes.py'}:mend"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    died = subprocess.run(
        [sys.executable, "-P", "-m", "raylake.cli.main", *arguments],
        env={**inherited, faults.ENV: str(tmp_path / "faults"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=False,
        timeout=120,
        capture_output=True,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    rows = 3 if done else 0
    balanced(copied, COUNT - 7 + rows)
    loaded = load(copied)
    again = replay(loaded, Selection(), SystemClock(), fix=arguments[-1])
    assert again.rows == 3 - rows
    assert (again.failed, again.tables[0].left) == (3, 1)
    balanced(copied, COUNT - 4)
    letters = letters_of(Path(dead_letter_path(loaded.config)))
    assert len(letters) == 7
    failed = letters.filter(pl.col("offset") == 5)
    assert failed["attempts"].to_list() == [2 if done else 1]


def balanced(file: Path, rows: int) -> None:
    config = load(file).config
    tables = [TableToVerify(f"{config.lake}/bronze/t", "bronze.t")]
    report = verify_pipeline(
        tables, dead_letter_path(config), config.pipeline, VerifyOptions("data")
    )
    assert report.ok, report.all_findings()
    assert len(rows_of(Path(config.lake) / "bronze" / "t")) == rows


@pytest.mark.spec("B3", "A4")
def test_dead_letters_go_to_a_topic_and_to_files_besides(
    bench: Bench, topic: str, broker: LiveBroker
) -> None:
    """After the replays: what they mark does not come again."""
    first = {one["offset"] for one in pq.read_table(bench.folder / "copies").to_pylist()}
    assert first == {*BROKEN, *EXTRA}
    folders = bench.folder.glob("copies/date=*/hour=*/pipeline=*/stage=*")
    assert "stage=decode" in {folder.name for folder in folders}
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", group_id=None
    )
    consumer.assign([TopicPartition(f"{topic}.dead", 0)])
    found: dict[int, Any] = {}

    def read() -> bool:
        for records in consumer.poll(500).values():
            for one in records:
                found[int(dict(one.headers)["raylake.offset"])] = one
        return len(found) >= len(first)

    try:
        until(read, "the dead letters are in the topic", 60)
    finally:
        consumer.close()
    assert found.keys() == first
    one = found[8]
    told = dict(one.headers)
    assert (one.key, one.value, told["from"]) == (b"k8", BROKEN[8], b"test")
    assert (told["raylake.topic"], told["raylake.partition"]) == (topic.encode(), b"0")
    assert (told["raylake.pipeline"], told["raylake.table"]) == (bench.name.encode(), b"bronze.t")
    assert told["raylake.stage"] == b"decode"
    assert told["raylake.reason"]
