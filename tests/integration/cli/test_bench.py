"""`raylake bench` on a real topic: each stage has its cost, and nothing is left behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from raylake.cli.main import main
from tests.harness.broker import LiveBroker
from tests.integration.cli.conftest import GOOD, POISON, pipeline_text


@pytest.fixture
def file(broker: LiveBroker, topic: str, tmp_path: Path) -> Path:
    text = pipeline_text(broker, topic) + f"dead_letters: {{path: {tmp_path}/letters}}\n"
    path = tmp_path / "clicks.yaml"
    path.write_text(text.replace("./lake", f"{tmp_path}/lake"))
    return path


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _tables(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["bench", *arguments, "--output", "json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["tables"]
    return found


@pytest.mark.spec("A12")
def test_each_stage_of_a_topic_of_ones_own(
    file: Path, scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [found] = _tables(capsys, str(file))
    assert found["records"] == GOOD + POISON
    assert (found["rows"], found["dead"], found["partitions"]) == (GOOD, POISON, 2)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["fetch", "decode", "assemble", "encode", "commit"]
    for stage in stages.values():
        assert stage["cpu_s"] > 0
        assert stage["wall_s"] > 0
        assert stage["bytes"] > 0
    spent = sum(stage["cpu_s"] for stage in stages.values()) + found["between_s"]
    assert spent == pytest.approx(found["cpu_s"])
    assert stages["decode"]["bytes"] < stages["fetch"]["bytes"]
    assert found["records_per_cpu_s"] == pytest.approx(found["records"] / found["cpu_s"])
    assert found["commits"] >= 1
    # The rows of the table and the dead letters: a file at least of each.
    assert found["files"] >= 2
    assert list(scratch.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"clicks.yaml", "scratch"}


def test_so_many_records_and_one_table(
    file: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [found] = _tables(capsys, str(file), "--records", "700", "--table", "bronze.clicks")
    assert found["records"] == 700
    assert main(["bench", str(file), "--records", "50", "--stages"]) == 0
    said = capsys.readouterr().out
    for words in (
        "fetch: socket and frames",
        "encode Parquet",
        "whole",
        "per CPU-second",
        "kernels",
    ):
        assert words in said
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "arguments", "code", "words"),
    [
        (("", ""), ["--table", "bronze.none"], 2, "bronze.clicks"),
        (("bronze:", "bronzes:"), [], 2, "bronze"),
        (("connect", "connect"), ["--set", "kafka.bootstrap=127.0.0.1:1"], 4, "127.0.0.1:1"),
        (
            ("commit_interval: 500ms", "start: {timestamp: '2999-01-01T00:00:00Z'}"),
            [],
            2,
            "no record",
        ),
    ],
)
def test_bad_input_has_the_exit_code_of_the_other_commands(
    file: Path,
    scratch: Path,
    change: tuple[str, str],
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file.write_text(file.read_text().replace(*change) if change[0] else file.read_text())
    arguments = [*arguments, "--set", "kafka.connect_timeout=2s"]
    assert main(["bench", str(file), *arguments]) == code
    assert words in capsys.readouterr().err
    assert list(scratch.iterdir()) == []
