"""`raylake breaker` and `raylake watermark`: what they read and refuse without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raylake.cli.main import main
from raylake.cli.watermark import milliseconds, text_of
from raylake.client.orders import breakers_of, give_order
from raylake.clock import ManualClock
from raylake.errors import ConfigError, Terminal
from tests.unit.cli.documents import status_document

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
