"""What is sent to places at an interval: troubles are kept for the status, ends do not hang."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from raylake.clock import ManualClock
from raylake.config import load_bytes
from raylake.delta.table_sizes import TableSizes
from raylake.errors import AlreadyRunning, DependencyUnreachable, Fenced, NotOurTable
from raylake.telemetry.pushing import Pusher, Pushers, speaks_last
from raylake.telemetry.table_watch import TableWatch
from raylake.telemetry.targets import Outlets

PATIENCE_S = 20.0


class Place:
    """Takes pushes as a test wants it to."""

    name = "place"

    def __init__(self, push: Callable[[], None], *, interval_s: float, timeout_s: float) -> None:
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self._push = push

    def push(self) -> None:
        self._push()


def away() -> None:
    raise DependencyUnreachable("nobody answers")


def test_a_place_that_is_away_is_a_trouble_told_once_for_each_time_and_a_success_ends_it() -> None:
    answers = iter([away, away, lambda: None])
    clock = ManualClock(start=100.0)
    pusher = Pusher(Place(lambda: next(answers)(), interval_s=1000, timeout_s=1), clock)
    pusher.push()
    trouble = pusher.trouble()
    assert trouble is not None
    assert trouble.message == "nobody answers"
    assert pusher.trouble() is None
    pusher.push()
    assert pusher.trouble() is not None
    assert pusher.snapshot() == {
        "pushed": 0, "failed": 2, "last_at": None, "error": "nobody answers",
    }  # fmt: skip
    pusher.push()
    assert pusher.trouble() is None
    assert pusher.snapshot() == {"pushed": 1, "failed": 2, "last_at": 100.0, "error": ""}


def test_it_is_sent_at_its_interval_until_the_end_and_once_more() -> None:
    often, pushes = threading.Event(), []

    def push() -> None:
        pushes.append(threading.current_thread().name)
        if len(pushes) == 3:
            often.set()

    pushers = Pushers([Place(push, interval_s=0.001, timeout_s=PATIENCE_S)], ManualClock())
    pushers.start()
    pushers.start()
    assert often.wait(PATIENCE_S)
    pushers.close(last=False)
    kept = len(pushes)
    assert set(pushes) == {"push-place"}
    pushers.close(last=True)
    assert pushes[kept:] == ["last-push"]
    assert bool(pushers)
    assert not Pushers([], ManualClock())


def test_a_place_that_never_answers_does_not_keep_a_run_from_ending() -> None:
    answered = threading.Event()
    place = Place(lambda: assert_true(answered.wait(PATIENCE_S)), interval_s=1000, timeout_s=0.01)
    pushers = Pushers([place], ManualClock())
    pushers.close(last=True)
    assert not answered.is_set()
    assert pushers.snapshot()["place"]["pushed"] == 0
    answered.set()


def assert_true(value: bool) -> None:
    assert value


def test_outlets_are_those_of_the_pipeline_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
pipeline: shop
lake: /lake
kafka: {bootstrap: 'localhost:9092'}
bronze: {orders: {topics: [orders]}}
"""
    more = "metrics: {push_gateway: {url: 'http://gateway:9091/'}, cloudwatch: {region: eu-west-1}}"
    plain = load_bytes(text.encode(), path="p.yaml", environ={}).config
    sent = load_bytes((text + more).encode(), path="p.yaml", environ={}).config
    assert not Outlets.of(plain, ManualClock()).pushers
    outlets = Outlets.of(sent, ManualClock())
    assert list(outlets.pushers.snapshot()) == ["push_gateway", "cloudwatch"]
    labels = {"pipeline": "shop", "table": "bronze.orders"}
    outlets.metrics.set("raylake_lag_records", 7, labels)
    assert outlets.served.registry.get_sample_value("raylake_lag_records", labels) == 7
    assert sent.metrics.push_gateway is not None
    assert sent.metrics.push_gateway.url == "http://gateway:9091"


def test_tables_are_measured_each_on_its_own_and_keep_what_was_known() -> None:
    found: dict[str, TableSizes | None] = {"a": TableSizes(3), "b": None}

    def measure(path: str) -> TableSizes:
        size = found[path]
        if size is None:
            raise NotOurTable("there is no table yet")
        return size

    watch = TableWatch(lambda: {"bronze.b": "b", "bronze.a": "a"}, measure)
    watch.look()
    assert watch.sizes == {"bronze.a": TableSizes(3)}
    found.update(a=None, b=TableSizes(1))
    watch.look_soon(PATIENCE_S)
    assert watch.sizes == {"bronze.a": TableSizes(3), "bronze.b": TableSizes(1)}
    watch.start()
    watch.start()
    watch.close()


def test_a_run_that_another_one_stands_in_for_has_no_last_word() -> None:
    assert speaks_last(None)
    assert speaks_last(DependencyUnreachable("the store is away"))
    assert not speaks_last(AlreadyRunning("another run lives"))
    assert not speaks_last(Fenced("a newer owner"))
