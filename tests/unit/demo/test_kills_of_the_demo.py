"""Whom the demo kills, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake import faults
from raylake.demo.kills import DERIVED, POINTS, Aim, of_derived, told

LAKE = Path("/lake/silver/orders")


@pytest.mark.parametrize(("kills", "wanted"), [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2), (9, 2)])
def test_of_some_kills_a_third_are_of_silver_and_gold(kills: int, wanted: int) -> None:
    for silver in (None, LAKE):
        aims = of_derived(kills, silver)
        assert len(aims) == wanted
        # Each of them is armed after one of ingestion, and another one of those follows.
        assert not aims or kills - wanted > wanted


def test_where_spark_writes_its_host_is_killed_too() -> None:
    assert of_derived(9, LAKE)[1] == Aim("spark.committed", str(LAKE))
    assert of_derived(9, None)[1] == Aim("transform.after_commit", "gold.daily_sales")


def test_every_kill_is_at_a_point_that_there_is_and_is_told_in_words() -> None:
    known = {*faults.POINTS, *faults.COMMAND_POINTS, *faults.SPARK_POINTS}
    assert {*POINTS, *DERIVED} <= known
    said = told({"point": "spark.committed", "table": str(LAKE)})
    assert said == "the Spark host, a commit of silver.orders landed and not answered"
    said = told({"point": "transform.before_commit", "table": "silver.orders"})
    assert said == "the transformer, before a commit of silver.orders"
