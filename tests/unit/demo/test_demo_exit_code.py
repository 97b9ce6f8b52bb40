"""The demo's exit code: nothing but balanced accounts of all layers and every kill is a success."""

from __future__ import annotations

from typing import Any

import pytest

from raylake.demo.result import DemoResult, found_wrong, lines

GOOD = {"log": True, "data": True, "broker": True}


@pytest.mark.parametrize(
    ("verified", "balanced", "same", "problems", "code"),
    [
        (GOOD, True, True, [], 0),
        ({**GOOD, "data": False}, True, True, ["verify"], 3),
        (GOOD, False, True, ["the auditor"], 3),
        (GOOD, None, True, [], 3),
        (GOOD, True, False, ["silver"], 3),
        (GOOD, True, None, [], 3),
        (GOOD, True, True, ["only 5 of 7 kills hit"], 1),
    ],
)
def test_only_balanced_accounts_with_every_kill_are_a_success(
    verified: dict[str, bool],
    balanced: bool | None,
    same: bool | None,
    problems: list[str],
    code: int,
) -> None:
    audit = {} if balanced is None else {"balanced": balanced}
    derived = {} if same is None else {"same": same}
    result = DemoResult("lake", verify=verified, audit=audit, derived=derived, problems=problems)
    assert result.exit_code == code


def compared(rows: int, missing: int = 0) -> dict[str, Any]:
    return {
        "rows": rows - missing,
        "expected": rows,
        "missing": missing,
        "unexpected": 0,
        "examples": ["missing: {'order_id': 'o1'}"] * missing,
    }


def derived(missing: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "same": not missing,
        "silver": compared(1000, missing),
        "gold": compared(10),
        "quarantine": compared(5),
        "unlike_notes": 0,
        "by_rule": {"range": 5},
        "orders": 1000,
        "revenue": "12.50",
        "digest": "1f",
        "engines": {"silver": {"spark": 2}, "gold": {"spark": 1}},
        **more,
    }


def test_what_differs_is_told_by_table_and_example() -> None:
    found = list(found_wrong({"balanced": True}, derived(missing=1), "spark"))
    assert found[0].startswith("silver: computed anew it has 1,000 rows: 1 of them are not there")
    assert found[1:] == ["silver: missing: {'order_id': 'o1'}"]
    result = DemoResult("lake", derived=derived(missing=1), verify=GOOD, problems=found)
    told = "\n".join(lines(result, {}))
    assert "silver     999 rows, computed anew DIFFERENT; digest 1f" in told
    assert "gold       10 rows, computed anew the same; 1,000 orders, revenue 12.50" in told
    assert "PROBLEM    silver: computed anew" in told


def test_rows_that_nobody_spoiled_and_another_engine_are_told() -> None:
    mixed = {"silver": {"spark": 2, "delta-rs": 1}, "gold": {}}
    found = list(found_wrong({"balanced": False}, derived(unlike_notes=3, engines=mixed), "spark"))
    assert [one.partition(":")[0] for one in found] == [
        "the auditor",
        "quarantine",
        "silver",
        "gold",
    ]
    assert list(found_wrong({"balanced": True}, derived(engines=mixed), "auto")) == []
