"""Bad input gets the documented exit code, a message that says where, and leaves no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobs
from raylake.client.launch import RunProcess, RunRequest
from tests.harness.broker import LiveBroker
from tests.integration.cli.conftest import Shell, pipeline_text


@pytest.mark.long
@pytest.mark.spec("K1")
def test_an_unreachable_broker_is_4_and_named_with_the_files_line(
    broker: LiveBroker, topic: str, joined_shell: Shell
) -> None:
    text = pipeline_text(broker, topic).replace(
        f"bootstrap: {broker.bootstrap}", "bootstrap: 127.0.0.1:1\n  connect_timeout: 2s"
    )
    joined_shell.write("clicks.yaml", text)
    done = joined_shell("run", "clicks.yaml")
    assert done.code == 4, done.out + done.err
    assert "127.0.0.1:1" in done.err
    assert "clicks.yaml:4:14 kafka.bootstrap" in done.err
    assert "hint: " in done.err
    assert "job.log" in done.err
    assert "Traceback" not in done.err
    assert not (joined_shell.folder / "lake" / "bronze").exists()


@pytest.mark.long
@pytest.mark.spec("K1")
def test_an_unknown_topic_is_2_and_named_with_the_files_line(
    broker: LiveBroker, topic: str, joined_shell: Shell
) -> None:
    joined_shell.write("clicks.yaml", pipeline_text(broker, f"{topic}x"))
    done = joined_shell("run", "clicks.yaml", "-o", "json")
    assert done.code == 2, done.out + done.err
    error = done.json["error"]
    assert error["code"] == "unknown_topic"
    assert topic in error["hint"]
    assert error["at"] == ["clicks.yaml:7:14 bronze.clicks.topics[0]"]
    assert not (joined_shell.folder / "lake" / "bronze").exists()


@pytest.mark.long
@pytest.mark.spec("K1")
def test_a_folder_that_is_no_delta_table_is_5_and_left_alone(
    broker: LiveBroker, topic: str, joined_shell: Shell
) -> None:
    joined_shell.write("clicks.yaml", pipeline_text(broker, topic))
    folder = joined_shell.folder / "lake" / "bronze" / "clicks"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    done = joined_shell("run", "clicks.yaml", "--available-now")
    assert done.code == 5, done.out + done.err
    assert str(folder) in done.err
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def _job(shell: Shell, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.ingest", "--config", "a.yaml", *arguments],
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": str(Path(jobs.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_flag_of_the_job_without_a_value_is_2(shell: Shell) -> None:
    shell.write("a.yaml", "{}")
    done = _job(shell, "--set", "foo")
    assert done.returncode == 2, done.stderr
    assert "--set foo: no value" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ray_that_does_not_come_up_is_4(shell: Shell) -> None:
    text = "pipeline: a\nlake: ./lake\nkafka: {bootstrap: 'h:1'}\nbronze: {a: {topics: [a]}}\n"
    shell.write("a.yaml", text)
    done = _job(shell, RAYLAKE_RAY_DIR=str(shell.folder / ("long" * 30)), RAY_ADDRESS="")
    assert done.returncode == 4, done.stderr
    assert "Ray did not come up on this machine: " in done.stderr
    assert "raylake doctor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("hiding", ["actors/__init__.py", "actors.py"])
def test_a_package_of_the_users_that_hides_ours_is_2_and_is_not_run(
    shell: Shell, hiding: str
) -> None:
    (shell.folder / hiding).parent.mkdir(exist_ok=True)
    shell.write(hiding, "raise RuntimeError('the package of the user')\n")
    done = _job(shell)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("another package hides one of RayLake's: ")
    assert f"actors from {shell.folder.resolve()}" in done.stderr
    assert "raylake job ingest" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.spec("K1")
def test_a_wrong_file_is_2_before_anything_is_started(shell: Shell) -> None:
    shell.write("bad.yaml", "pipeline: x\nlake: ./lake\nkafka: {bootstrap: h}\nbronze: {}\n")
    done = shell("run", "bad.yaml", "-o", "json")
    assert done.code == 2
    assert json.loads(done.err)["error"]["context"]["problems"][0]["line"] == 3
    assert not (shell.folder / "lake").exists()


@pytest.mark.spec("K7")
def test_a_full_disk_below_the_logs_hides_neither_reason_nor_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("pipeline: x\n")
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("job.log", "error.json"):
        (folder / name).symlink_to("/dev/full")
    process = RunProcess(RunRequest(file, "run", folder))
    assert process.wait(120) == 2
    error = process.error()
    assert error is not None
    assert error["code"] == "configuration"
    assert "lake: this key is required" in error["message"]


def test_a_job_whose_last_words_do_not_fit_on_the_disk_ends_with_its_own_code() -> None:
    script = """if True:
        import sys
        from jobs import ingest
        sys.stdout.reconfigure(line_buffering=False, write_through=False)
        sys.stdout.write("done")
        ingest.end(4)
    """
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=full, timeout=120)
    assert done.returncode == 4
