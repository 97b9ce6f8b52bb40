"""The session of a host, where a table needs another one than is there."""

from __future__ import annotations

from typing import Any, cast

import pytest

from raylake.clock import SystemClock
from raylake.spark.errors import JarsMissing, SparkNotReady
from raylake.spark.host import LEAVING, LiveSession, SparkHosting
from raylake.spark.life import Limits, State


class Session:
    """One that reaches no store."""

    def __init__(self, *, jars: bool) -> None:
        self.jars = jars

    def fits(self, table: str) -> bool:
        if "://" in table and not self.jars:
            raise JarsMissing("the jars of S3 for Spark are missing")
        return "://" not in table

    def executors(self) -> int:
        return 1

    def alive(self) -> bool:
        return True

    def enter_group(self, group: str, what: str) -> None: ...

    def stop(self) -> None: ...


def hosting(session: Session) -> tuple[SparkHosting, list[str | None]]:
    asked: list[str | None] = []

    def start(table: str | None) -> LiveSession:
        asked.append(table)
        return cast("LiveSession", session)

    return SparkHosting(Limits(60.0, 60.0, 60.0), start, lambda: None, SystemClock()), asked


def done(_: Any) -> str:
    return "done"


def test_a_session_that_does_not_reach_a_store_makes_way_for_one_that_does() -> None:
    host, asked = hosting(Session(jars=True))
    assert host.execute("/lake/t", "upsert", done) == "done"
    assert asked == ["/lake/t"], "it is started for the table that is first"
    with pytest.raises(SparkNotReady) as told:
        host.execute("s3://lake/t", "upsert", done)
    assert told.value.context[LEAVING], "who asked makes another host"
    assert host.status().state is State.LOST
    assert host.status().operations == 1


def test_a_session_stays_where_another_one_would_not_reach_the_store_either() -> None:
    host, _ = hosting(Session(jars=False))
    assert host.execute("/lake/t", "upsert", done) == "done"
    with pytest.raises(JarsMissing):
        host.execute("s3://lake/t", "upsert", done)
    assert host.execute("/lake/t", "upsert", done) == "done"
