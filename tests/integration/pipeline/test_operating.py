"""Operating a run: health, breakers by hand, the watermark's repair, lists and stops.

One pipeline goes through all of it in the order of this file; each test leaves it running.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from raylake.cli.main import main
from raylake.client.watermarks import watermarks
from raylake.clock import SystemClock
from raylake.config import load
from tests.harness.broker import LiveBroker
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import Record, produce

TABLE = "bronze.events"
STORE = ("--dependency", "store", "--table", TABLE)
NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
LATENESS = dt.timedelta(minutes=10)


class Operated:
    """The run, the commands that are typed, and what they print."""

    def __init__(self, bench: Bench, topic: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.bench = bench
        self.topic = topic
        self._capsys = capsys

    def type(self, *arguments: str, code: int = 0) -> Any:
        """A command with JSON; its answer, or its error."""
        file = str(self.bench.file)
        self._capsys.readouterr()
        ended = main([file if one == "FILE" else one for one in arguments] + ["-o", "json"])
        said = self._capsys.readouterr()
        assert ended == code, said.out + said.err
        return json.loads(said.out) if said.out else json.loads(said.err)["error"]

    def ask(self, path: str) -> tuple[int, Any]:
        """An endpoint's status and body."""
        url = f"{self.bench.status()['http']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                body = answer.read().decode()
                return answer.status, body if path == "/metrics" else json.loads(body)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def produce(self, at: dt.datetime, count: int = 5) -> None:
        """Records of partition 0 with this event time."""
        made = [Record({"id": n, "at": at.isoformat()}, partition=0) for n in range(count)]
        produce(self.bench.broker, self.topic, made)

    def breaker(self, name: str) -> dict[str, Any]:
        """A breaker as `raylake breaker list` shows it."""
        listed = self.type("breaker", "list", "FILE")["breakers"]
        return next(one for one in listed if one["name"] == name)

    def committed(self) -> int:
        return self.bench.accounted("events")

    def watermark(self) -> str | None:
        shown = self.type("watermark", "show", "FILE", TABLE)["watermarks"]
        return str(shown[0]["watermark"])


@pytest.fixture(scope="module")
def running(broker: LiveBroker, make_bench: MakeBench) -> tuple[Bench, str]:
    bench, topic = make_bench(), broker.create_topic("operated", partitions=2)
    table = {
        "topics": [topic],
        "schema": {"id": "long", "at": "timestamp"},
        "event_time": {
            "column": "at",
            "lateness": "10m",
            "late": "flag",
            "idle_timeout": "1s",
            "max_ahead": "9000d",
        },
    }
    bench.write({"events": table})
    bench.start()
    return bench, topic


@pytest.fixture
def run(running: tuple[Bench, str], capsys: pytest.CaptureFixture[str]) -> Operated:
    made = Operated(*running, capsys)
    made.bench.until(lambda: made.bench.status().get("state") == "running", "the run")
    return made


def _text(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.spec("A11")
def test_a_run_serves_its_health_and_metrics_on_loopback(run: Operated) -> None:
    run.produce(NOW)
    run.bench.until(lambda: run.ask("/readyz")[0] == 200, "ready")
    assert run.bench.status()["http"].startswith("http://127.0.0.1:")
    assert run.ask("/readyz")[1] == {"ok": True, "state": "running", "why": []}
    code, body = run.ask("/healthz")
    assert (code, body["ok"], body["state"]) == (200, True, "running")
    run.bench.until(lambda: run.committed() == 5, "commits")
    rows = f'raylake_records_total{{outcome="row",pipeline="{run.bench.name}",stage="committed"'
    run.bench.until(lambda: f'{rows},table="{TABLE}"}} 5.0' in run.ask("/metrics")[1], "metrics")
    assert run.ask("/nowhere")[0] == 404
    listed = run.type("list", str(run.bench.lake))["runs"]
    assert [(one["life"], one["status"]["http"]) for one in listed] == [
        ("alive", run.bench.status()["http"])
    ]


@pytest.mark.spec("B2")
def test_a_store_tripped_by_hand_waits_through_replacements_for_its_reset(run: Operated) -> None:
    before, lost = run.committed(), run.bench.status()["restarts"].get("owner", 0)
    name = f"{TABLE}/store"
    told = run.type("breaker", "trip", "FILE", *STORE, "--reason", "disk is moved")
    assert told["breakers"] == [name]
    shown = run.breaker(name)
    assert (shown["state"], shown["by_hand"]) == ("open", True)
    assert shown["reason"] == "by hand: disk is moved"
    run.bench.until(lambda: run.ask("/readyz")[0] == 503, "not ready")
    assert run.ask("/readyz")[1]["why"] == [
        f"{TABLE}: the breaker of store is open, by hand: disk is moved"
    ]
    assert run.ask("/healthz")[0] == 200

    run.produce(NOW)
    run.bench.until(lambda: run.bench.table_status("events").get("held_bytes"), "records held")
    os.kill(run.bench.table_status("events")["owner_pid"], signal.SIGKILL)
    run.bench.until(lambda: run.bench.status()["restarts"].get("owner", 0) > lost, "an owner")
    run.bench.until(lambda: run.bench.status()["missing"] == [], "its report")
    time.sleep(1)  # Several commit intervals: what must not happen has no condition to wait for.
    assert run.committed() == before
    assert run.bench.table_status("events")["breakers"]["store"]["by_hand"]
    metric = f'raylake_breaker_state{{dependency="store",pipeline="{run.bench.name}"}} 2.0'
    assert metric in run.ask("/metrics")[1]

    assert run.type("breaker", "reset", "FILE", *STORE)["breakers"] == [name]
    run.bench.until_accounted(events=before + 5)
    run.bench.until(lambda: run.ask("/readyz")[0] == 200, "ready again")
    assert run.breaker(name)["state"] == "closed"


@pytest.mark.spec("B2")
def test_orders_that_fit_nothing_change_nothing(run: Operated) -> None:
    error = run.type("breaker", "trip", "FILE", *STORE[:3], "bronze.nowhere", code=2)
    assert f"{TABLE}/store" in error["hint"]
    assert run.type("breaker", "reset", "FILE", code=2)["code"] == "configuration"
    assert run.type("watermark", "set", "FILE", TABLE, "yesterday", code=2)["hint"]
    future = _text(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    assert run.type("watermark", "set", "FILE", TABLE, future, code=2)["hint"]
    nowhere = run.type("watermark", "set", "FILE", "bronze.nowhere", _text(NOW), code=2)
    assert TABLE in nowhere["hint"]
    assert run.bench.status()["held"] == {}


@pytest.mark.spec("A10")
def test_a_watermark_that_a_wild_clock_moved_is_set_back_while_the_run_goes_on(
    run: Operated,
) -> None:
    before = run.committed()
    wild = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=4000)
    run.produce(wild, 1)
    run.bench.until_accounted(events=before + 1)
    run.bench.until(lambda: run.watermark() == _text(wild - LATENESS), "the wild clock's mark")

    planned = run.type("watermark", "set", "FILE", TABLE, _text(NOW), "--dry-run")
    assert (planned["by"], planned["was"], planned["value"], planned["dry_run"]) == (
        "run",
        _text(wild - LATENESS),
        _text(NOW),
        True,
    )
    assert run.watermark() == _text(wild - LATENESS)
    moved = run.type("watermark", "set", "FILE", TABLE, _text(NOW))
    assert (moved["by"], moved["was"]) == ("run", _text(wild - LATENESS))
    run.bench.until(lambda: run.watermark() == _text(NOW), "the repaired mark")

    later = NOW + dt.timedelta(hours=2)
    run.produce(later, 3)
    run.bench.until_accounted(events=before + 4)
    run.produce(later, 3)
    run.bench.until_accounted(events=before + 7)
    assert run.bench.rows("events").tail(3)["_late"].to_list() == [False] * 3
    run.bench.until(lambda: run.watermark() == _text(later - LATENESS), "it moves again")
    config, clock = load(run.bench.file).config, SystemClock()
    times_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        assert watermarks(config, clock, TABLE)[0].source == "run"
        times_s.append(time.perf_counter() - began_s)
    assert min(times_s) < 0.01


@pytest.mark.spec("A10", "A11", "B2")
def test_what_is_held_and_set_survives_the_run(run: Operated) -> None:
    bench, before = run.bench, run.committed()
    run.type("breaker", "trip", "FILE", "--dependency", "broker", "--reason", "maintenance")
    url = bench.status()["http"]
    stopped = run.type("stop-all", str(bench.lake))["runs"]
    assert [one["status"]["state"] for one in stopped] == ["stopped"]
    bench.runs[-1].ends_with(0)
    assert run.type("status", "FILE")["life"] == "ended"
    assert bench.status()["http"] is None
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/healthz", timeout=5)
    error = run.type("breaker", "reset", "FILE", "--all", code=1)
    assert "raylake run" in error["hint"]

    was = run.watermark()
    back = NOW - dt.timedelta(days=1)
    version = len(list((bench.table("events") / "_delta_log").glob("*.json")))
    planned = run.type("watermark", "set", "FILE", TABLE, _text(back), "--dry-run")
    assert (planned["by"], planned["was"]) == ("command", was)
    assert len(list((bench.table("events") / "_delta_log").glob("*.json"))) == version
    assert run.type("watermark", "set", "FILE", TABLE, _text(back))["was"] == was
    assert run.watermark() == _text(back)

    bench.start()
    bench.until(lambda: bench.status().get("state") == "running", "the next run")
    run.produce(NOW - dt.timedelta(hours=1), 2)
    bench.until(lambda: "maintenance" in str(run.ask("/readyz")[1]), "not ready")
    bench.until(lambda: run.committed() == before, "the owner's report")
    time.sleep(1)
    assert run.committed() == before
    assert run.breaker("broker")["by_hand"]
    run.type("breaker", "reset", "FILE", "--all")
    bench.until_accounted(events=before + 2)
    assert bench.rows("events").tail(2)["_late"].to_list() == [False] * 2
    assert run.type("stop", "FILE")["status"]["state"] == "stopped"
    bench.runs[-1].ends_with(0)
    bench.verify("events")
