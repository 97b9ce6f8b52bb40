"""The demo's exit code: nothing but a balanced account and every kill is a success."""

from __future__ import annotations

import pytest

from raylake.demo.main import DemoResult

GOOD = {"log": True, "data": True, "broker": True}


@pytest.mark.parametrize(
    ("verified", "balanced", "problems", "code"),
    [
        (GOOD, True, [], 0),
        ({**GOOD, "data": False}, True, ["verify"], 3),
        (GOOD, False, ["the auditor"], 3),
        (GOOD, None, [], 3),
        (GOOD, True, ["only 5 of 7 kills hit"], 1),
    ],
)
def test_only_a_balanced_account_with_every_kill_is_a_success(
    verified: dict[str, bool], balanced: bool | None, problems: list[str], code: int
) -> None:
    audit = {} if balanced is None else {"balanced": balanced}
    result = DemoResult("lake", verify=verified, audit=audit, problems=problems)
    assert result.exit_code == code
