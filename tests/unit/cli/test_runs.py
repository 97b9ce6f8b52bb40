"""Whose run it is, whether it lives, and when stopping or starting is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from raylake.cli.main import main
from raylake.client.launch import PACKAGE_ROOT, RunRequest, job_environment
from raylake.client.runs import life_of, refuse_second_run, run_status, stop_run
from raylake.clock import ManualClock
from raylake.errors import AlreadyRunning, Refused, Terminal
from tests.unit.cli.documents import lake_of, status_document

ELSEWHERE = {"host": "another-host", "pid": 1, "pid_created_s": 0.0}


def _gone() -> dict[str, Any]:
    job = status_document()["job"]
    return {**job, "pid_created_s": job["pid_created_s"] - 100.0}


@pytest.mark.parametrize("state", ["done", "stopped", "failed"])
def test_a_run_that_says_so_has_ended(state: str) -> None:
    assert life_of(status_document(state=state)) == "ended"


def test_a_pid_that_was_given_again_is_not_the_run() -> None:
    assert life_of(status_document()) == "alive"
    assert life_of(status_document(job=_gone())) == "dead"
    assert life_of(status_document(job=ELSEWHERE)) == "elsewhere"


def _written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "status.json"
    path.write_text(json.dumps(status_document(**changes)))
    return path


def test_the_age_is_told(tmp_path: Path) -> None:
    found = run_status(_written(tmp_path), ManualClock(1_700_000_031.0))
    assert found.age_s == 30.0
    assert found.to_dict()["life"] == "alive"
    assert set(found.to_dict()) == {"life", "age_s", "status"}


def test_stopping_what_ended_is_done_at_once(tmp_path: Path) -> None:
    path = _written(tmp_path, state="stopped")
    assert stop_run(path, 1.0, ManualClock()).document["state"] == "stopped"


def test_a_process_of_another_host_is_never_signalled(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="another-host"):
        stop_run(_written(tmp_path, job=ELSEWHERE), 1.0, ManualClock())
    submitted = {**ELSEWHERE, "submission_id": "raysubmit_1"}
    with pytest.raises(Refused) as told:
        stop_run(_written(tmp_path, job=submitted), 1.0, ManualClock())
    assert "ray job stop raysubmit_1" in told.value.hint


def test_a_pid_that_was_given_again_is_never_signalled(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="is gone"):
        stop_run(_written(tmp_path, job=_gone()), 1.0, ManualClock())


def test_a_second_run_is_refused_only_while_the_first_lives(tmp_path: Path) -> None:
    clock = ManualClock()
    with pytest.raises(AlreadyRunning, match="20250101T000000Z-abcdef"):
        refuse_second_run(_written(tmp_path), "orders", clock)
    refuse_second_run(_written(tmp_path, state="done"), "orders", clock)
    refuse_second_run(_written(tmp_path, job=_gone()), "orders", clock)
    refuse_second_run(tmp_path / "none.json", "orders", clock)


def test_status_json_has_a_stable_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "orders.yaml"
    file.write_text(
        f"pipeline: orders\nlake: {tmp_path}/lake\nkafka: {{bootstrap: 'h:1'}}\n"
        "bronze: {orders: {topics: [orders]}}\n"
    )
    folder = tmp_path / "lake" / "_raylake" / "status"
    folder.mkdir(parents=True)
    document = status_document(job=_gone())
    (folder / "orders.json").write_text(json.dumps(document))
    assert main(["status", str(file), "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"format", "life", "age_s", "status", "upkeep"}
    assert said["upkeep"] == {"state": "off", "why": ""}
    assert (said["format"], said["life"], said["status"]) == (1, "dead", document)
    assert main(["status", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "DEAD" in shown
    assert "upkeep: off" in shown


def test_the_job_is_started_so_that_no_folder_can_hide_it(tmp_path: Path) -> None:
    request = RunRequest(Path("a.yaml"), "r1", tmp_path, True, True, ("a.b=c d",), None)
    assert request.command() == [
        *(sys.executable, "-P", "-m", "jobs.ingest", "--config", "a.yaml", "--run-id=r1"),
        *("--available-now", "--take-over", "--set=a.b=c d"),
    ]


def test_the_job_finds_this_installation_first() -> None:
    made = job_environment({"PYTHONPATH": "/elsewhere"}, address="10.0.0.1:6379")
    assert made["PYTHONPATH"].split(":") == [str(PACKAGE_ROOT), "/elsewhere"]
    assert made["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert "RAY_ADDRESS" not in job_environment({})


def test_the_pipelines_of_a_lake_are_listed_with_how_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lake_of(
        tmp_path,
        one=status_document(pipeline="one", state="done"),
        two=status_document(pipeline="two", job=_gone()),
    )
    assert main(["list", str(lake)]) == 0
    said = capsys.readouterr().out
    assert "one: done" in said
    assert "two: DEAD" in said
    assert main(["list", str(lake), "--output", "json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["life"] for run in runs] == ["ended", "dead"]


def test_a_folder_without_pipelines_is_no_lake(tmp_path: Path) -> None:
    assert main(["list", str(tmp_path)]) == 2
    assert main(["stop-all", str(tmp_path)]) == 2
