"""`raylake breaker` and `raylake watermark`: what they read and refuse without a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from raylake.cli.main import ROOT, main
from raylake.cli.watermark import milliseconds, text_of
from raylake.client.orders import breakers_of, give_order
from raylake.clock import ManualClock
from raylake.errors import ConfigError, Terminal
from tests.unit.cli.documents import lake_of, status_document

TABLE = "bronze.orders"


def breaker(state: str, **more: Any) -> dict[str, Any]:
    return {"name": "store", "state": state, "reason": "", "by_hand": False, "since": 1.0, **more}


def test_the_worst_of_each_name_is_listed_and_what_is_held_by_hand() -> None:
    document = status_document(
        tables={TABLE: {"breakers": {"store": breaker("closed"), "dead_letters": breaker("open")}}},
        consumers={
            "consumer-0": {"breakers": {f"{TABLE}/store": breaker("half_open", reason="full")}},
            "consumer-1": {"breakers": {f"{TABLE}/dead_letters": breaker("half_open")}},
        },
        held={f"poison/{TABLE}/orders/id/0": {"reason": "ask them", "since": 2.0}},
    )
    found = {one["name"]: (one["state"], one["reason"]) for one in breakers_of(document)}
    assert found == {
        "broker": ("closed", ""),
        f"{TABLE}/store": ("half_open", "full"),
        f"{TABLE}/dead_letters": ("open", ""),
        f"poison/{TABLE}/orders/id/0": ("open", "by hand: ask them"),
    }


def test_a_held_breaker_is_listed_as_held_whatever_processes_have_said_until_now() -> None:
    held = {"broker": {"reason": "moved", "since": 2.0}}
    listed = breakers_of(status_document(tables={}, consumers={}, held=held))
    assert [(one["state"], one["by_hand"], one["since"]) for one in listed] == [("open", True, 2.0)]


@pytest.mark.parametrize("state", ["stopped", "failed", "done"])
def test_a_run_that_ended_takes_no_orders(tmp_path: Path, state: str) -> None:
    path = tmp_path / "_raylake" / "status" / "shop.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(status_document(state=state)))
    with pytest.raises(Terminal, match="does not run"):
        give_order(path, "breaker.trip", {}, ManualClock(), 1.0)
    assert not (tmp_path / "_raylake" / "orders").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["breaker", "reset", "shop.yaml"],
        ["breaker", "reset", "shop.yaml", "--all", "--dependency", "store"],
        ["breaker", "trip", "shop.yaml"],
        ["breaker", "trip", "shop.yaml", "--dependency", "disk"],
        ["watermark", "set", "shop.yaml", TABLE, "2026-01-31T12:00:00"],
    ],
)
def test_an_order_that_is_not_clear_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["exit_code"] == 2


def test_points_in_time() -> None:
    assert milliseconds("2026-01-31T12:00:00.001Z") == milliseconds("2026-01-31T14:00:00.001+02:00")
    assert text_of(milliseconds("2026-01-31T12:00:00.001Z")) == "2026-01-31T12:00:00.001Z"
    assert text_of(None) is None
    for wrong in ("yesterday", "2026-01-31", "2026-01-31T12:00:00", ""):
        with pytest.raises(ConfigError):
            milliseconds(wrong)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Every command and the names of its parameters."""
    with typer.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, TyperGroup):
                yield from commands(command, (*path, name))
            else:
                yield " ".join((*path, name)), {one for p in command.params for one in p.opts}


def test_whatever_reads_a_pipeline_file_takes_values_above_it() -> None:
    found = dict(commands(ROOT))
    assert {"breaker trip", "watermark set", "logs", "stop", "verify"} <= found.keys()
    assert [name for name, given in found.items() if "file" in given and "--set" not in given] == []


def test_a_watermark_of_a_table_whose_folder_is_gone_is_not_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake_of(tmp_path / "lake", orders=status_document(state="stopped"))
    file = tmp_path / "orders.yaml"
    file.write_text(
        f"pipeline: orders\nlake: {tmp_path}/lake\nkafka: {{bootstrap: 'localhost:9092'}}\n"
        "bronze: {orders: {topics: [orders]}}\n"
    )
    for more in ([], ["--dry-run"]):
        typed = ["watermark", "set", str(file), TABLE, "2026-01-31T12:00:00Z", *more]
        assert main([*typed, "-o", "json"]) == 5
        error = json.loads(capsys.readouterr().err)["error"]
        assert error["code"] == "table_missing"
        assert "holds no Delta table" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["watermark", "show"], 0, "bronze.orders: 2026-01-01T00:00:00.000Z"),
        (["breaker", "list"], 0, "bronze.orders/store"),
        (["breaker", "trip", "--dependency", "store"], 1, "does not run"),
        (["breaker", "reset", "--all"], 1, "does not run"),
        (["stop"], 0, "stopped"),
        (["logs"], 0, "said by the owner"),
    ],
)
def test_operating_commands_find_a_lake_that_is_set(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    file = tmp_path / "orders.yaml"
    file.write_text(
        "pipeline: orders\nlake: ./nowhere\nkafka: {bootstrap: 'localhost:9092'}\n"
        "bronze: {orders: {topics: [orders]}}\n"
    )
    document = status_document(state="running" if arguments[1:] == ["show"] else "stopped")
    document["tables"][TABLE]["watermark_ms"] = milliseconds("2026-01-01T00:00:00Z")
    lake = lake_of(tmp_path / "lake", orders=document)
    logs = lake / "_raylake" / "logs" / "orders" / "20250101T000000Z-abcdef"
    logs.mkdir(parents=True)
    line = {"time": "2026-01-01T00:00:00.000Z", "level": "info", "message": "said by the owner"}
    (logs / "owner.jsonl").write_text(json.dumps(line) + "\n")
    at = 1 + (len(arguments) > 1 and not arguments[1].startswith("-"))
    typed = [*arguments[:at], str(file), *arguments[at:]]
    main(typed)
    told = capsys.readouterr()
    assert said not in told.out + told.err
    assert main([*typed, "--set", f"lake={lake}"]) == code
    told = capsys.readouterr()
    assert said in told.out + told.err
