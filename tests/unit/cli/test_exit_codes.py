"""Every error ends at one boundary, with the exit code of its class and a hint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylake import errors
from raylake.cli.lazy import Entry
from raylake.cli.main import COMMANDS, ROOT, main, tell

GOOD = """\
pipeline: orders
lake: ./lake
kafka: {bootstrap: "localhost:9092"}
bronze: {orders: {topics: [orders]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.Terminal, 1),
        (errors.ConfigError, 2),
        (errors.UnknownTopic, 2),
        (errors.VerifyDifference, 3),
        (errors.DependencyUnreachable, 4),
        (errors.Refused, 5),
        (errors.AlreadyRunning, 5),
        (errors.Fenced, 6),
    ],
)
def test_the_exit_code_is_that_of_the_errors_class(
    kind: type[errors.RayLakeError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(kind("what happened", hint="what to do"), as_json=False) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: what happened\nhint: what to do\n"


def test_an_error_as_json_has_a_stable_shape(capsys: pytest.CaptureFixture[str]) -> None:
    tell(errors.Refused("no", hint="do", partition=3), as_json=True)
    assert json.loads(capsys.readouterr().err) == {
        "format": 1,
        "error": {
            "code": "refused",
            "message": "no",
            "hint": "do",
            "exit_code": 5,
            "context": {"partition": 3},
        },
    }


@pytest.mark.parametrize(
    "arguments", [["nope"], ["verify"], ["verify", "--nope"], ["run", "a", "b"]]
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Usage" in said.err


def test_wrong_usage_as_json_is_2_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--output", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["exit_code"] == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_what_nobody_expected_is_1_and_keeps_its_traceback_in_a_file(
    as_json: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "raylake_broken_command.py").write_text(
        "import typer\napp = typer.Typer()\n@app.command()\n"
        "def broken(output: str = 'text') -> None:\n    raise ZeroDivisionError('by design')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ROOT._entries, "broken", Entry("raylake_broken_command", "Fails."))
    assert main(["broken", *(["--output", "json"] if as_json else [])]) == 1
    said = capsys.readouterr().err
    (kept,) = tmp_path.glob("raylake-error-*.txt")
    assert str(kept) in said
    assert "Traceback" not in said
    assert "ZeroDivisionError: by design" in kept.read_text()


def test_an_interrupt_is_130(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raylake.cli.files.load", interrupted)
    assert main(["validate", str(file)]) == 130
    assert main(["validate", str(file), "--output=json"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_pipeline_that_never_ran_is_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "stop", "logs", "verify"):
        assert main([command, str(file), "--output", "json"]) == 2
        assert json.loads(capsys.readouterr().err)["error"]["hint"]


@pytest.mark.spec("K1")
@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr()
    assert f"raylake {command}" in said.out
    assert said.err == ""


def test_the_list_of_commands_imports_none_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f" {command} " in said for command in COMMANDS)


def test_version_as_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("raylake ")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_offers_no_options_of_the_root(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert command in said
    assert "completion" not in said
