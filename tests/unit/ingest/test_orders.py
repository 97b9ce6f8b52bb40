"""Orders through the lake: carried out at most once, never late, always answered."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from raylake.clock import ManualClock
from raylake.errors import AlreadyRunning, OutcomeUnknown, Refused, Terminal
from raylake.ingest import order_files, orders
from raylake.ingest.order_files import KEEP_ANSWERS_S
from raylake.ingest.orders import OrderBox, order_folder
from raylake.storage import objects
from raylake.storage.access import Reached
from raylake.storage.objects import StoreDenied, StoreError, StorePath
from raylake.storage.place import names


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
    assert "has not answered within 60 s; it may have been carried out" in lost.message
    assert "ended" not in lost.message, "nobody looked whether it lives"
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
    create = order_files.create

    def late(path: Path, document: Mapping[str, Any]) -> None:
        order.unlink()
        create(path, document)

    monkeypatch.setattr(order_files, "create", late)
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "orders"
    made.mkdir()
    return made


def _order(folder: Path, name: str, clock: Busy, age_s: float = 0.0) -> Path:
    path = folder / f"{name}.order"
    said = {"format": 1, "name": name, "arguments": {}, "until": clock.now() + 300}
    path.write_text(json.dumps(said))
    return _aged(path, clock, age_s)


def _aged(path: Path, clock: Busy, age_s: float) -> Path:
    os.utime(path, (clock.now() - age_s,) * 2)
    return path


def _folder_for_an_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    path.mkdir()


def _unreadable_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads what nobody may, so the operating system's answer is given here."""
    path.write_text("{}")
    read = Path.read_bytes

    def denied(self: Path) -> bytes:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", denied)


@pytest.mark.parametrize("make", [_folder_for_an_order, _unreadable_order])
def test_an_order_that_cannot_be_read_keeps_no_other_one_from_its_turn(
    make: Callable[[Path, pytest.MonkeyPatch], None],
    clock: Busy,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    box = OrderBox(folder, clock)
    bad = folder / "bad.order"
    make(bad, monkeypatch)
    _aged(bad, clock, KEEP_ANSWERS_S - 1)
    old = folder / "old.answer"
    old.write_text("{}")
    _aged(old, clock, KEEP_ANSWERS_S + 1)
    _order(folder, "first", clock, 2)
    _order(folder, "second", clock, 1)
    assert [order.name for order in box.take()] == ["first", "second"]
    assert not old.exists()
    assert bad.exists()
    _order(folder, "third", clock)
    assert [order.name for order in box.take()] == ["third"]
    assert len([one for one in caplog.messages if "bad.order" in one]) == 1
    clock.sleep(2)
    assert box.take() == []
    assert not bad.exists(), "older than answers are kept"


def test_a_folder_with_something_in_it_is_never_removed_for_an_order(
    clock: Busy, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    bad = folder / "bad.order"
    bad.mkdir()
    (bad / "mine").write_text("")
    _aged(bad, clock, KEEP_ANSWERS_S + 1)
    box = OrderBox(folder, clock)
    assert [box.take() for _ in range(3)] == [[]] * 3
    assert (bad / "mine").exists()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("listed", [["a.answer", "a.claim"], ["a.claim", "a.answer"]])
def test_an_answered_order_is_not_called_unfinished(
    clock: Busy, folder: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str]
) -> None:
    """Its asker was killed, so a run removes what both left, in whatever order it finds it."""
    for name in listed:
        (folder / name).write_text("{}")
        _aged(folder / name, clock, KEEP_ANSWERS_S + 1)
    box = OrderBox(folder, clock)
    monkeypatch.setattr(order_files, "names", lambda _: listed)
    assert (box.take(), box.unfinished()) == ([], [])
    assert names(folder) == []


def test_an_answer_stays_until_its_claim_could_be_removed(
    clock: Busy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.answer", "a.claim"):
        (folder / name).write_text("{}")
        _aged(folder / name, clock, KEEP_ANSWERS_S + 1)
    box, unlink = OrderBox(folder, clock), Path.unlink

    def refused(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".claim":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        assert (box.take(), box.unfinished()) == ([], [])
    assert (box.take(), box.unfinished()) == ([], [])
    assert names(folder) == []


def test_an_unfinished_order_is_told_once_although_its_claim_cannot_be_removed(
    clock: Busy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = folder / "a.claim"
    claim.write_text("{}")
    _aged(claim, clock, KEEP_ANSWERS_S + 1)
    box, unlink = OrderBox(folder, clock), Path.unlink

    def refused(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".claim":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        told = [len(box.unfinished()) for _ in range(3) if box.take() == []]
    assert box.take() == []
    assert sum(told) + len(box.unfinished()) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_an_order_whose_asker_is_interrupted_is_not_called_unfinished_when_it_was_answered(
    clock: Busy, folder: Path, answered: bool
) -> None:
    run = OrderBox(folder, clock, "run 1")

    def interrupted() -> None:
        for order in run.take():
            if answered:
                run.answer(order, {})
        raise KeyboardInterrupt

    clock.meanwhile = interrupted
    with pytest.raises(KeyboardInterrupt):
        OrderBox(folder, clock).ask("breaker.trip", {}, 10)
    for left in folder.iterdir():
        _aged(left, clock, KEEP_ANSWERS_S + 1)
    assert run.take() == []
    assert len(run.unfinished()) == (0 if answered else 1)
    assert names(folder) == []


def test_an_interrupted_order_that_nobody_took_leaves_nothing(clock: Busy, folder: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    clock.meanwhile = interrupted
    with pytest.raises(KeyboardInterrupt):
        OrderBox(folder, clock).ask("breaker.trip", {}, 10)
    assert names(folder) == []


def test_an_order_that_cannot_be_removed_is_taken_back_all_the_same(
    clock: Busy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refused(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".order":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        unlink(self, missing_ok=missing_ok)

    run = OrderBox(folder, clock)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        patched.setattr(clock, "now", lambda: 1_700_000_000.0)
        with pytest.raises(Terminal, match="it is taken back"):
            OrderBox(folder, clock).ask("breaker.trip", {}, 3)
        assert run.take() == []
    assert sorted(path.suffix for path in folder.iterdir()) == [".claim", ".order"]


def test_an_answer_that_comes_when_the_asker_has_just_given_up_is_left_with_its_claim(
    clock: Busy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, taken = OrderBox(folder, clock, "run 1"), []
    clock.meanwhile = lambda: taken.extend(run.take())
    asker = OrderBox(folder, clock)
    silent = asker._silent

    def meanwhile(*args: Any) -> Any:
        run.answer(taken[0], {})
        return silent(*args)

    monkeypatch.setattr(asker, "_silent", meanwhile)
    with pytest.raises(Terminal, match="has not said within 3 s"):
        asker.ask("breaker.trip", {}, 3)
    for left in folder.iterdir():
        _aged(left, clock, KEEP_ANSWERS_S + 1)
    assert (run.take(), run.unfinished(), names(folder)) == ([], [], [])


def test_a_claim_that_could_not_be_written_is_removed_and_made_again(
    clock: Busy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _order(folder, "a", clock)
    box, opened = OrderBox(folder, clock), Path.open

    def full(self: Path, *args: Any, **more: Any) -> Any:
        file = opened(self, *args, **more)
        if self.suffix == ".claim" and args == ("x",):
            with opened(Path("/dev/full"), "w") as device:
                os.dup2(device.fileno(), file.fileno())
        return file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        assert box.take() == []
    assert names(folder) == ["a.order"]
    assert [order.name for order in box.take()] == ["a"]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> StorePath:
    """A folder of orders in a store that lies in this process's memory."""
    known = Reached(client=MemoryStore(), options={}, looked_at_s=0.0)
    monkeypatch.setattr(objects, "reached", lambda *_, **__: known)
    return StorePath("s3://lake/orders")


def _answers_lost(
    monkeypatch: pytest.MonkeyPatch, error: OSError, landed: Callable[[], None] | None
) -> None:
    """Orders are put, or not, and the store's answer to it does not arrive."""
    write = orders.write

    def lost(path: Any, document: Mapping[str, Any]) -> None:
        if path.name.endswith(".order"):
            if landed is not None:
                write(path, document)
                landed()
            raise error
        write(path, document)

    monkeypatch.setattr(orders, "write", lost)


def test_an_order_that_landed_although_its_answer_was_lost_is_taken_back(
    store: StorePath, clock: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answers_lost(monkeypatch, StoreError("operation timed out"), lambda: None)
    with pytest.raises(Refused, match="cannot be left in the lake: operation timed out"):
        OrderBox(store, clock).ask("breaker.trip", {}, 10)
    (claim,) = names(store)
    assert claim.endswith(".claim"), "the put may still land: what lands is nobody's"
    late = {"format": 1, "name": "x", "arguments": {}, "until": clock.now() + 9}
    (store / claim.replace(".claim", ".order")).put(json.dumps(late).encode())
    assert OrderBox(store, clock).take() == []


def test_an_order_that_landed_and_was_taken_is_not_called_refused(
    store: StorePath, clock: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, taken = OrderBox(store, clock, "run 1"), []
    _answers_lost(monkeypatch, StoreError("timed out"), lambda: taken.extend(run.take()))
    with pytest.raises(OutcomeUnknown, match=r"run 1 took the order at .* timed out"):
        OrderBox(store, clock).ask("breaker.trip", {}, 10)
    assert [order.name for order in taken] == ["breaker.trip"]


def test_of_a_store_that_answers_nothing_it_is_not_known_whether_the_order_is_there(
    store: StorePath, clock: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise StoreError("no connection")

    _answers_lost(monkeypatch, StoreError("timed out"), lambda: None)
    monkeypatch.setattr(order_files, "create", silent)
    with pytest.raises(OutcomeUnknown, match="may have been taken: timed out"):
        OrderBox(store, clock).ask("breaker.trip", {}, 10)


def test_a_store_that_denies_the_order_has_none(
    store: StorePath, clock: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answers_lost(monkeypatch, StoreDenied("403 Forbidden", 403), None)
    with pytest.raises(Refused, match="cannot be left in the lake: 403"):
        OrderBox(store, clock).ask("breaker.trip", {}, 10)
    assert names(store) == []


def test_a_lake_that_cannot_be_written_is_told(tmp_path: Path, clock: Busy) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be left in the lake"):
        OrderBox(tmp_path / "file" / "orders", clock).ask("breaker.trip", {}, 1)


def test_the_folder_stands_beside_the_status_documents() -> None:
    folder = order_folder(Path("/lake/_raylake/status/shop.v2.json"))
    assert folder == Path("/lake/_raylake/orders/shop.v2")
