"""Status documents and orders, in a lake on a disk and in an object store."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from raylake.clock import SystemClock
from raylake.errors import ConfigError, Refused, Terminal
from raylake.ingest.orders import OrderBox, order_folder
from raylake.ingest.status import read_status, write_status
from raylake.storage.place import Place, make_folder, names, place, write_whole
from tests.harness.store_proxy import StoreProxy


@pytest.fixture(params=["disk", "s3"])
def status_file(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    lake = tmp_path if request.param == "disk" else request.getfixturevalue("store_lake")
    return place(str(lake)) / "_raylake" / "status" / "orders.json"


def test_a_status_document_is_replaced_whole(status_file: Place) -> None:
    with pytest.raises(ConfigError, match="has not run with this lake"):
        read_status(status_file)
    for number in range(3):
        write_status(status_file, {"state": "running", "number": number})
    assert read_status(status_file) == {"format": 1, "state": "running", "number": 2}
    assert names(status_file.parent) == ["orders.json"]


def test_orders_are_taken_once_and_answered(status_file: Place) -> None:
    folder, over, taken = order_folder(status_file), Event(), []

    def supervise() -> None:
        box = OrderBox(folder, SystemClock())
        while not over.wait(0.05):
            for order in box.take():
                taken.append((order.name, dict(order.arguments)))
                wrong = order.name == "wrong"
                box.answer(order, Refused("not now", hint="later") if wrong else {"done": True})

    supervisor = Thread(target=supervise)
    supervisor.start()
    try:
        client = OrderBox(folder, SystemClock())
        assert client.ask("breaker.trip", {"name": "broker"}, 30.0) == {"done": True}
        with pytest.raises(Refused, match="not now"):
            client.ask("wrong", {}, 30.0)
    finally:
        over.set()
        supervisor.join()
    assert taken == [("breaker.trip", {"name": "broker"}), ("wrong", {})]
    assert names(folder) == []


def test_an_order_that_nobody_takes_is_taken_back(status_file: Place) -> None:
    folder = order_folder(status_file)
    with pytest.raises(Terminal, match="did not take the order"):
        OrderBox(folder, SystemClock()).ask("breaker.trip", {}, 0.2)
    assert names(folder) == []


def test_of_two_takers_that_race_for_orders_one_gets_each(status_file: Place) -> None:
    """Both know of an order before either takes it, time and again."""
    folder, clock = order_folder(status_file), SystemClock()
    make_folder(folder)
    ids = [f"order-{number}" for number in range(8)]
    for order_id in ids:
        said = {"format": 1, "name": "x", "arguments": {}, "until": clock.now() + 300}
        write_whole(folder / f"{order_id}.order", json.dumps(said))
    boxes = [OrderBox(folder, clock, f"run {number}") for number in range(4)]
    together, got = Barrier(len(boxes)), []

    def take(box: OrderBox) -> None:
        for order_id in ids:
            path = folder / f"{order_id}.order"
            path.stat()
            together.wait(60)
            order = box._taken(path)
            if order is not None:
                got.append(order.order_id)
            together.wait(60)

    with ThreadPoolExecutor(len(boxes)) as threads:
        for taking in [threads.submit(take, box) for box in boxes]:
            taking.result()
    assert sorted(got) == ids


def test_an_order_whose_put_landed_without_an_answer_is_taken_back(
    store_lake: str, proxy: StoreProxy
) -> None:
    folder = place(store_lake) / "orders"
    with (
        proxy.fault("drop_answer", path=".order") as fault,
        pytest.raises(Refused, match="cannot be left in the lake"),
    ):
        OrderBox(folder, SystemClock()).ask("breaker.trip", {}, 30.0)
    assert fault.done > 0
    (claim,) = names(folder)
    said = {"format": 1, "name": "x", "arguments": {}, "until": time.time() + 300}
    write_whole(folder / claim.replace(".claim", ".order"), json.dumps(said))
    assert OrderBox(folder, SystemClock()).take() == []


def test_a_claim_whose_put_landed_without_an_answer_is_the_takers_own(
    store_lake: str, proxy: StoreProxy
) -> None:
    folder = place(store_lake) / "orders"
    said = {"format": 1, "name": "x", "arguments": {}, "until": time.time() + 300}
    write_whole(folder / "a.order", json.dumps(said))
    box, other = OrderBox(folder, SystemClock()), OrderBox(folder, SystemClock())
    with proxy.fault("drop_answer", path=".claim", times=1) as fault:
        got = box.take()
    assert fault.done == 1
    assert [order.order_id for order in got] == ["a"]
    assert other.take() == []
