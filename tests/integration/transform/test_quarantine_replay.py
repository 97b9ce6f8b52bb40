"""Quarantined rows go once more through today's rules into their table, exactly once."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.client import quarantine
from raylake.client.lake import Lake
from raylake.config import load
from raylake.config.addresses import transform_status_path
from raylake.errors import RayLakeError
from raylake.ingest.status import read_status
from raylake.storage.place import place
from tests.harness.waiting import until
from tests.integration.transform.shop import NOON, Shop

CHEAP: dict[str, Any] = {
    "rule": "range",
    "column": "amount",
    "max": 10,
    "on_failure": "quarantine",
    "name": "cheap",
}
KNOWN: dict[str, Any] = {
    "rule": "in_set",
    "column": "country",
    "values": ["DE"],
    "on_failure": "quarantine",
    "name": "known",
}
DEAR = {"amount": "99.00"}
APPENDS = {"mode": "append", "keys": None, "sequence_by": None}
STEPS = (
    "transform.before_files",
    "quality.written",
    "transform.before_commit",
    "transform.after_commit",
    "quality.before_commit",
    "quality.after_commit",
)


class Cut(BaseException):
    """A process that ends here; nobody catches it."""


def version(shop: Shop, name: str = "silver/orders") -> int:
    return int(DeltaTable(str(shop.lake / name)).version())


@pytest.mark.spec("B4", "E1")
def test_a_replay_takes_todays_rules_and_what_fails_again_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    shop.put({}, DEAR, {"amount": "5000.00"}, {**DEAR, "country": "XX"})
    shop.done()
    assert len(shop.amounts()) == 1
    shop.table_is({"quality": [{**CHEAP, "max": 100}, KNOWN]})
    before = version(shop), version(shop, "quarantine/orders")
    words = ("quarantine", "replay", "silver.orders")
    seen = shop.said(capsys, *words, "--preview", "-o", "json")
    assert (seen["passed"], seen["rejected"], seen["version"]) == (1, 2, None)
    assert (version(shop), version(shop, "quarantine/orders")) == before
    done = shop.said(capsys, *words, "-o", "json")
    assert (done["selected"], done["passed"], done["rejected"]) == (3, 1, 2)
    assert {why.split(":")[0]: n for why, n in done["reasons"].items()} == {"cheap": 1, "known": 1}
    assert sorted(shop.amounts().values()) == ["1.00", "99.00"]
    held = shop.said(capsys, "quarantine", "show", "silver.orders", "-o", "json")
    assert {(row["rule"], row["value"]) for row in held["rows"]} == {
        ("cheap", "5000.00"),
        ("known", "XX"),
    }
    # Provenance: the same number in the quarantine and in the table's log.
    marks = shop.table("quarantine.orders").filter(pl.col("replayed_at").is_not_null())
    assert set(marks["replay"]) == {1} == {done["number"]}
    # Once more: what passed does not come twice, what fails does not go round.
    again = shop.said(capsys, *words, "-o", "json")
    assert (again["selected"], again["passed"], again["rejected"]) == (2, 0, 2)
    assert sorted(shop.amounts().values()) == ["1.00", "99.00"]
    shop.put({})
    shop.done()
    assert shop.table("silver.orders").height == 3


@pytest.mark.spec("B4")
def test_a_selection_and_one_that_matches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    words = ("quarantine", "replay", "silver.orders")
    shop.put({})
    shop.done()
    assert "no open row" in shop.said(capsys, *words)
    assert "no open row" in shop.said(capsys, "quarantine", "show")
    shop.put(DEAR, {"amount": "50.00"})
    shop.done()
    shop.table_is({"quality": []})
    nothing = version(shop)
    assert "nothing to replay" in shop.said(capsys, *words, "--where", "value = '7'")
    assert version(shop) == nothing
    shop.said(capsys, *words, "--where", "value = '50.00'")
    assert sorted(shop.amounts().values()) == ["1.00", "50.00"]
    wrong = shop.said(capsys, *words, "--where", "nothing = 1", code=2)
    assert "nothing" in wrong
    assert "silver.orders" in shop.said(capsys, *words[:2], "silver.order", code=2)
    text = shop.said(capsys, *words)
    assert "1 passed" in text
    assert "replay 2" in text
    assert shop.table("silver.orders").height == 3


@pytest.mark.spec("B4", "D1")
@pytest.mark.parametrize("resolve", ["latest", "source"])
def test_an_old_row_does_not_overwrite_a_newer_one_nor_a_delete(
    tmp_path: Path, resolve: str
) -> None:
    shop = Shop(tmp_path, {"quality": [CHEAP], "resolve": resolve})
    shop.put({**DEAR, "order_id": "a"}, {**DEAR, "order_id": "b"}, {**DEAR, "order_id": "c"})
    shop.put({"order_id": "a"})
    gone = {"order_id": None, "customer_id": None, "amount": None, "updated_at": None}
    shop.put({**gone, "_key": b"b", "_tombstone": True, "_timestamp": NOON + dt.timedelta(1)})
    shop.done()
    shop.table_is({"quality": []})
    lake = Lake.from_pipeline(shop.file)
    assert lake.replay("silver.orders", preview=True).version is None
    assert lake.replay("silver.orders").passed == 3
    found = shop.amounts()
    assert (found["a"], found["c"]) == ("1.00", "99.00")
    if resolve == "latest":
        assert "b" not in found
    assert len(lake.quarantine("silver.orders")) == 0


@pytest.mark.spec("B4")
def test_rows_that_have_left_the_source_do_not_come_back(tmp_path: Path) -> None:
    shop = Shop(tmp_path, {"quality": [CHEAP]})
    shop.put({**DEAR, "order_id": "a"}, {**DEAR, "order_id": "b"})
    shop.done()
    DeltaTable(str(shop.lake / "bronze/orders")).delete("order_id = 'a'")
    shop.done()
    shop.table_is({"quality": []})
    done = Lake.from_pipeline(shop.file).replay("silver.orders")
    assert (done.passed, sum(done.kept.values())) == (1, 1)
    assert set(shop.amounts()) == {"b"}


@pytest.mark.spec("B4", "A3")
@pytest.mark.parametrize("point", STEPS)
def test_a_replay_that_is_cut_off_anywhere_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    shop.put({}, DEAR, {"amount": "5000.00"})
    shop.done()
    shop.table_is({"quality": [{**CHEAP, "max": 100}]})
    lake = Lake.from_pipeline(shop.file)
    reached: list[str] = []

    def cut(name: str, **_: Any) -> None:
        if name == point and not reached:
            reached.append(name)
            raise Cut

    monkeypatch.setattr(faults, "reach", cut)
    with pytest.raises(Cut):
        lake.replay("silver.orders")
    monkeypatch.undo()
    assert reached == [point]
    lake.replay("silver.orders")
    shop.put({})
    shop.done()
    assert sorted(shop.amounts().values()) == ["1.00", "1.00", "99.00"]
    assert [row.value for row in lake.quarantine()] == ["5000.00"]


@pytest.mark.spec("B4", "A3")
def test_replays_at_once_and_beside_steps_bring_each_row_in_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    for _ in range(3):
        shop.put(*([DEAR] * 5), {})
    shop.done()
    shop.table_is({"quality": []})
    failed: list[RayLakeError] = []

    def replay() -> None:
        try:
            Lake.from_pipeline(shop.file).replay("silver.orders")
        except RayLakeError as error:
            failed.append(error)

    shop.put({}, {})
    both = [threading.Thread(target=replay) for _ in range(2)]
    both.append(threading.Thread(target=shop.done))
    for one in both:
        one.start()
    for one in both:
        one.join()
    shop.done()
    assert not failed
    assert shop.table("silver.orders")["_offset"].sort().to_list() == list(range(20))


@pytest.mark.spec("B4", "D1")
def test_a_full_refresh_judges_all_again_and_closes_what_is_open(tmp_path: Path) -> None:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    shop.put({}, DEAR, {"amount": "5000.00"})
    shop.done()
    shop.table_is({"quality": [{**CHEAP, "max": 100}]})
    assert shop.run(refresh=("silver.orders",)).failure is None
    lake = Lake.from_pipeline(shop.file)
    assert [row.value for row in lake.quarantine()] == ["5000.00"]
    shop.table_is({"quality": []})
    assert lake.replay("silver.orders").passed == 0, "the lake has the file as it was"
    assert Lake.from_pipeline(shop.file).replay("silver.orders").passed == 1
    assert shop.table("silver.orders")["_offset"].sort().to_list() == [0, 1, 2]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    shop.put({}, DEAR)
    shop.done()
    shop.table_is({"quality": []})
    work = shop.running()
    thread = threading.Thread(target=work.main)
    thread.start()
    yield shop
    work.stop()
    thread.join(60)


@pytest.mark.spec("B4")
def test_beside_a_run_the_run_does_it(
    running: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "replay", None)
    status = place(transform_status_path(load(running.file).config))
    until(status.exists, "the run's status")
    until(lambda: read_status(status)["tables"], "the run has begun")
    running.put({})
    done = running.said(capsys, "quarantine", "replay", "silver.orders", "-o", "json")
    assert done["passed"] == 1
    until(lambda: running.table("silver.orders").height == 3, "all is in the table")
    assert "no open row" in running.said(capsys, "quarantine", "show")
    # The file's rules of today are not the run's.
    running.table_is({"quality": [CHEAP]})
    said = running.said(capsys, "quarantine", "replay", "silver.orders", code=1)
    assert "start it again" in said


@pytest.mark.spec("B4")
def test_an_aggregate_is_made_anew_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path)
    sql = "SELECT country, count(*) AS orders FROM silver.orders GROUP BY country"
    shop.document["gold"] = {"countries": {"mode": "aggregate", "sql": sql}}
    shop.change()
    shop.put({})
    shop.done()
    said = shop.said(capsys, "quarantine", "replay", "gold.countries", code=5)
    assert "--full-refresh gold.countries" in said


@pytest.mark.spec("B4", "E1")
def test_rows_are_kept_with_what_only_rules_read(tmp_path: Path) -> None:
    before = {**KNOWN, "when": "before"}
    after = {**CHEAP, "rule": "regex", "column": "order_id", "pattern": "o."}
    del after["max"]
    rules = {"quality": [before, after], "columns": ["order_id"], "types": None}
    shop = Shop(tmp_path, {**APPENDS, **rules})
    shop.put({}, {"country": "XX"}, {"order_id": "long"}, {"order_id": None})
    shop.done()
    assert shop.table("silver.orders")["order_id"].to_list() == ["o0", None]
    # Today's rules: the one before lets both countries pass, if there is one at all.
    present = {"rule": "not_null", "columns": ["country"], "when": "before"}
    rules["quality"] = [{**before, "values": ["DE", "XX"]}, {**present, "on_failure": "quarantine"}]
    shop.table_is(rules)
    done = Lake.from_pipeline(shop.file).replay("silver.orders")
    assert (done.passed, done.rejected, done.kept) == (2, 0, {})
    # A column that no rule asked for then is not known of rows that are kept.
    shop.table_is({"quality": [before]})
    shop.put({"country": "YY"})
    shop.done()
    shop.table_is({"quality": [{**present, "columns": ["segment"], "on_failure": "quarantine"}]})
    done = Lake.from_pipeline(shop.file).replay("silver.orders")
    assert (done.passed, done.rejected, sum(done.kept.values())) == (0, 0, 1)


@pytest.mark.spec("B4", "D1")
def test_versions_of_a_key_take_a_late_row_where_it_belongs(tmp_path: Path) -> None:
    keyed = {"mode": "scd2", "keys": ["customer_id"], "track": ["country"]}
    shop = Shop(tmp_path, {**keyed, "sequence_by": "updated_at", "types": None, "quality": [KNOWN]})
    shop.put({}, {"country": "XX"}, {})
    shop.done()
    shop.table_is({"quality": []})
    lake = Lake.from_pipeline(shop.file)
    assert lake.replay("silver.orders").passed == 1
    assert lake.replay("silver.orders").selected == 0
    versions = shop.table("silver.orders").sort("valid_from")
    assert versions["country"].to_list() == ["DE", "XX", "DE"]
    assert versions["is_current"].to_list() == [False, False, True]


@pytest.mark.spec("B4", "E1")
def test_a_replay_that_a_rule_aborts_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path, {**APPENDS, "quality": [CHEAP]})
    shop.put({}, DEAR)
    shop.done()
    shop.table_is({"quality": [{**CHEAP, "on_failure": "abort"}]})
    before = version(shop)
    for words in (["--preview"], []):
        said = shop.said(capsys, "quarantine", "replay", "silver.orders", *words, code=5)
        assert "nothing was written" in said
    assert version(shop) == before
    assert len(Lake.from_pipeline(shop.file).quarantine()) == 1
    lines = shop.lines("cheap").filter(pl.col("target_version").is_null())
    assert lines["passed"].to_list() == [False]
