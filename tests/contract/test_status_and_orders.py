"""Status documents and orders, in a lake on a disk and in an object store."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

import pytest

from raylake.clock import SystemClock
from raylake.errors import ConfigError, Refused, Terminal
from raylake.ingest.orders import OrderBox, order_folder
from raylake.ingest.status import read_status, write_status
from raylake.storage.place import Place, names, place


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
