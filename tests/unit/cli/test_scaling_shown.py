"""The status of a run whose number of consumers follows the lag."""

from __future__ import annotations

from raylake.cli.views import scaling


def test_a_fixed_number_is_not_explained() -> None:
    assert scaling({}) == scaling({"scaling": None}) == ""


def test_the_bounds_what_is_awaited_and_why() -> None:
    found = {"min": 1, "max": 4, "wanted": 1, "running": 1, "why": "", "changed_at": None}
    assert scaling({"scaling": found}) == " (1 to 4)"
    found |= {"wanted": 2, "why": "lag 120 s on 3 partitions: 1 -> 2 consumers", "changed_at": 0}
    assert scaling({"scaling": found}) == (
        " (1 to 4, 2 wanted; lag 120 s on 3 partitions: 1 -> 2 consumers, at 1970-01-01 00:00:00Z)"
    )
