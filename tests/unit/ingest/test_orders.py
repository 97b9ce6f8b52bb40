"""Orders through the lake: carried out at most once, never late, always answered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from raylake.clock import ManualClock
from raylake.errors import AlreadyRunning, Refused, Terminal
from raylake.ingest import orders
from raylake.ingest.orders import KEEP_ANSWERS_S, OrderBox, order_folder


class Busy(ManualClock):
    """Whoever waits lets the other side work."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.meanwhile()


@pytest.fixture
def clock() -> Busy:
    return Busy()


@pytest.fixture
def box(tmp_path: Path, clock: Busy) -> OrderBox:
    return OrderBox(tmp_path / "orders", clock)


def test_an_order_is_taken_once_and_answered(box: OrderBox, clock: Busy, tmp_path: Path) -> None:
    seen = []

    def supervisor() -> None:
        for order in box.take():
            seen.append((order.name, dict(order.arguments)))
            box.answer(order, {"breakers": ["broker"]})

    clock.meanwhile = supervisor
    assert box.ask("breaker.trip", {"reason": "x"}, 10) == {"breakers": ["broker"]}
    assert seen == [("breaker.trip", {"reason": "x"})]
    assert list((tmp_path / "orders").iterdir()) == []


def test_a_refusal_arrives_as_it_was_raised(box: OrderBox, clock: Busy) -> None:
    refusal = AlreadyRunning("somebody owns it", hint="stop it")
    clock.meanwhile = lambda: [box.answer(order, refusal) for order in box.take()] and None
    with pytest.raises(AlreadyRunning, match="somebody owns it") as caught:
        box.ask("watermark.set", {}, 10)
    assert (caught.value.hint, caught.value.exit_code) == ("stop it", 5)


def test_an_order_that_nobody_takes_is_taken_back(box: OrderBox) -> None:
    with pytest.raises(Terminal, match="did not take the order within 3 s; it is taken back"):
        box.ask("breaker.trip", {}, 3)
    assert box.take() == []


def test_an_order_that_was_taken_and_not_answered_is_told_apart(box: OrderBox, clock: Busy) -> None:
    clock.meanwhile = lambda: box.take() and None
    with pytest.raises(Terminal, match="has not said within 3 s"):
        box.ask("breaker.trip", {}, 3)


def test_an_order_whose_taker_dies_is_not_repeated_and_the_next_run_says_so(
    clock: Busy, tmp_path: Path
) -> None:
    folder = tmp_path / "orders"
    dead, live = OrderBox(folder, clock, "run 1"), OrderBox(folder, clock, "run 2")
    clock.meanwhile = lambda: dead.take() and None
    with pytest.raises(Terminal, match=r"run 1 took the order at .* has not said within 3 s"):
        OrderBox(folder, clock).ask("breaker.trip", {}, 3)
    assert (live.take(), live.unfinished()) == ([], [])
    (claim,) = folder.iterdir()
    os.utime(claim, (clock.now() - KEEP_ANSWERS_S - 1,) * 2)
    assert live.take() == []
    (lost,) = live.unfinished()
    assert "(breaker.trip) is unfinished: run 1 took the order at " in lost.message
    assert live.unfinished() == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("order_left", [True, False])
def test_a_claim_stands_against_every_other_taker_also_when_its_order_was_not_removed(
    clock: Busy, tmp_path: Path, order_left: bool
) -> None:
    folder = tmp_path / "orders"
    folder.mkdir()
    order, claim = folder / "a.order", folder / "a.claim"
    said = {"format": 1, "name": "breaker.trip", "arguments": {}, "until": clock.now() + 300}
    if order_left:
        order.write_text(json.dumps(said))
    claim.write_text("")  # its writer died before it wrote into it
    os.utime(claim, (clock.now(),) * 2)
    live = OrderBox(folder, clock)
    assert (live.take(), live.unfinished()) == ([], [])
    os.utime(claim, (clock.now() - KEEP_ANSWERS_S - 1,) * 2)
    assert live.take() == []
    assert len(live.unfinished()) == 1
    assert list(folder.iterdir()) == []


def test_a_claim_that_comes_after_its_order_went_takes_nothing(
    clock: Busy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at the order and the claim another run takes, answers and clears it."""
    folder = tmp_path / "orders"
    folder.mkdir()
    said = {"format": 1, "name": "breaker.trip", "arguments": {}, "until": clock.now() + 300}
    order = folder / "a.order"
    order.write_text(json.dumps(said))
    create = orders._create

    def late(path: Path, document: Mapping[str, Any]) -> None:
        order.unlink()
        create(path, document)

    monkeypatch.setattr(orders, "_create", late)
    assert OrderBox(folder, clock).take() == []
    assert list(folder.iterdir()) == []


def test_a_late_or_broken_order_is_removed_and_left_out(
    box: OrderBox, clock: Busy, tmp_path: Path
) -> None:
    folder = tmp_path / "orders"
    folder.mkdir()
    late = {"format": 1, "name": "breaker.trip", "arguments": {}, "until": clock.now() - 1}
    for name, text in {
        "a": json.dumps(late),
        "b": "{",
        "c": json.dumps({**late, "until": None}),
        "d": json.dumps({**late, "until": clock.now() + 9, "arguments": []}),
        "e": json.dumps({**late, "until": clock.now() + 9, "format": 2}),
    }.items():
        (folder / f"{name}.order").write_text(text)
    assert box.take() == []
    assert list(folder.iterdir()) == []


def test_answers_that_nobody_waited_for_go(box: OrderBox, clock: Busy, tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    folder.mkdir()
    for name, age_s in (("old", KEEP_ANSWERS_S + 1), ("new", 1)):
        path = folder / f"{name}.answer"
        path.write_text("{}")
        os.utime(path, (clock.now() - age_s,) * 2)
    assert box.take() == []
    assert [path.name for path in folder.iterdir()] == ["new.answer"]


def test_a_lake_that_cannot_be_written_is_told(tmp_path: Path, clock: Busy) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be left in the lake"):
        OrderBox(tmp_path / "file" / "orders", clock).ask("breaker.trip", {}, 1)


def test_the_folder_stands_beside_the_status_documents() -> None:
    folder = order_folder(Path("/lake/_raylake/status/shop.v2.json"))
    assert folder == Path("/lake/_raylake/orders/shop.v2")
