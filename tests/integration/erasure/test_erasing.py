"""A person leaves all layers, and the account balances."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from raylake import faults
from raylake.cli.main import main
from raylake.client.dead_letters import Selection
from raylake.client.erasing import EraseOrder, erase
from raylake.client.erasure_receipt import Receipt, Receipts
from raylake.client.lake import connect, table_at
from raylake.client.replays import replay
from raylake.clock import SystemClock
from raylake.config import dead_letter_path, load
from raylake.delta.checkpoint import checkpoint
from raylake.delta.dead_letters import DeadLetterTable, app_of
from raylake.delta.leases import Leases, reader_of
from raylake.delta.log_reader import LogReader
from raylake.errors import RayLakeError, Refused
from raylake.tables import errors
from raylake.tables.delta_rs_open import opened
from raylake.tables.requests import Delete, Read
from raylake.tables.service import DirectTables
from raylake.tables.upkeep_requests import Compact, Vacuum
from raylake.tables.vacuum import vacuum
from tests.integration.erasure.shop import PERSON, WHERE, Shop, messages

DO = EraseOrder(WHERE, dry_run=False)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.fill()
    made.transform()
    return made


def rows_of(receipt: Receipt) -> dict[str, int]:
    return {one.table: one.rows for one in receipt.tables.values()}


FOUND = {
    "bronze.orders": 5,
    "silver.orders": 3,
    "gold.customers": 3,
    "gold.sales": 0,
    "quarantine": 2,
    "dead letters": 2,
    "quality": 0,
}


@pytest.mark.spec("F4")
def test_a_person_leaves_all_layers_and_the_account_balances(shop: Shop) -> None:
    assert len(shop.files_with()) >= 5
    before = {name: shop.read(name) for name in FOUND if "." in name}
    planned = erase(shop.loaded, EraseOrder(WHERE))
    assert rows_of(planned) == FOUND
    assert {name: shop.read(name) for name in before} == before, "a dry run"
    assert not (shop.lake / "_raylake" / "erasures").exists()
    done = erase(shop.loaded, DO)
    assert (done.complete, done.left, rows_of(done)) == (True, [], FOUND)
    assert shop.files_with() == []
    report = shop.verify()
    assert report.totals.dropped == 5
    assert report.totals.dead == 6, "the person's letters are dead offsets as before"
    for name in ("bronze.orders", "silver.orders"):
        kept = [one for one in before[name] if one["customer_id"] != PERSON]
        assert key(shop.read(name)) == key(kept)
    assert all(
        one["orders"] == 2 * (1 + (one["segment"] == "a")) for one in shop.read("gold.sales")
    )
    again = erase(shop.loaded, DO)
    assert (again.complete, again.rows) == (True, 0)


def key(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))


@pytest.mark.spec("F4")
def test_a_later_step_and_a_full_refresh_do_not_bring_a_person_back(shop: Shop) -> None:
    erase(shop.loaded, DO)
    expected = {name: key(shop.read(name)) for name in ("silver.orders", "gold.sales")}
    shop.transform()
    shop.refresh()
    assert shop.files_with() == []
    assert {name: key(shop.read(name)) for name in expected} == expected
    assert PERSON not in str(shop.read("gold.customers"))
    shop.verify()


@pytest.mark.spec("F4")
def test_a_receipt_says_what_was_done_and_no_value(shop: Shop) -> None:
    done = erase(shop.loaded, DO)
    folder = shop.lake / "_raylake" / "erasures"
    (document,) = folder.glob("*.json")
    assert PERSON not in document.read_text()
    said = json.loads(document.read_text())
    assert said["predicate"] == ""
    assert len(said["predicate_sha256"]) == 64
    assert said["tables"]["bronze.orders"]["versions_lost"]
    assert said["tables"]["bronze.orders"]["files_removed"]
    (row,) = table_at(folder / "receipts").read().to_arrow().to_pylist()
    assert (row["erasure_id"], row["rows"], row["complete"]) == (done.erasure_id, 15, True)
    assert PERSON not in str(row)
    told = erase(shop.loaded, EraseOrder("customer_id = 'bob'", dry_run=False, say_text=True))
    assert told.predicate == "customer_id = 'bob'"
    lost = int(said["tables"]["bronze.orders"]["versions_lost"].split()[0])
    with pytest.raises(errors.VersionGone):
        shop_table(shop).read(version=lost).to_arrow()


def shop_table(shop: Shop) -> Any:
    return connect(shop.lake).table("bronze.orders")


@pytest.mark.spec("F4")
def test_erased_letters_stay_counted_and_are_never_replayed(shop: Shop) -> None:
    before = shop.letters()
    erase(shop.loaded, DO)
    after = shop.letters()
    assert after.keys() == before.keys()
    gone = {at: one for at, one in after.items() if one["stage"] == "erased"}
    assert len(gone) == 2
    for at, one in gone.items():
        assert (one["key"], one["value"], one["headers"]) == (None, None, None)
        assert one["failed_stage"] == before[at]["stage"]
        assert PERSON not in one["reason"]
    others = [at for at in after if at not in gone]
    assert all(after[at]["value"] == before[at]["value"] for at in others)
    done = replay(shop.loaded, Selection(), SystemClock())
    assert (done.lost, done.rows) == (2, 0)
    shop.verify()


@pytest.mark.spec("F4")
def test_copies_in_rewritten_files_and_letters_that_became_rows_are_erased(shop: Shop) -> None:
    tables = DirectTables()
    tables.execute(str(shop.lake / "silver" / "orders"), Compact())
    tables.execute(str(shop.lake / "gold" / "customers"), Delete("segment = 'b'"))
    mend = shop.fix(
        f"    if b'{PERSON}' not in letter.value or not letter.value.startswith(b'{{'):\n"
        "        return None\n"
        "    return letter.value.replace(b', broken', b'}')"
    )
    done = replay(shop.loaded, Selection(), SystemClock(), fix=mend)
    assert done.rows == 1
    shop.transform()
    found = erase(shop.loaded, DO)
    assert found.complete
    assert rows_of(found)["dead letters"] == 2, "that of the row too"
    assert shop.files_with() == []
    shop.verify()


@pytest.mark.spec("F4")
def test_what_is_pinned_or_read_is_named_and_waits_for_force(shop: Shop) -> None:
    table = shop_table(shop)
    version = table.version
    pinned = table.read(version=version).to_arrow().num_rows
    table.pin("2999-01-01T00:00:00Z", name="audit")
    planned = erase(shop.loaded, EraseOrder(WHERE))
    assert planned.left == []
    done = erase(shop.loaded, DO)
    assert not done.complete
    assert any("pin audit keeps version" in one for one in done.left)
    assert shop.files_with() == [one for one in shop.files_with() if one.startswith("bronze/")]
    assert table.read(version=version).to_arrow().num_rows == pinned
    assert PERSON not in str(shop.read("bronze.orders"))
    shop.verify()
    forced = erase(shop.loaded, EraseOrder(WHERE, dry_run=False, force=True))
    assert (forced.erasure_id, forced.complete) == (done.erasure_id, True)
    assert rows_of(forced)["bronze.orders"] == 5
    assert "pin audit" in forced.tables["bronze.orders"].searched
    assert shop.files_with() == []
    with pytest.raises(errors.VersionGone):
        table.read(version=version).to_arrow()


@pytest.mark.spec("F4")
@pytest.mark.parametrize(
    "point",
    [
        "erase.letters",
        "erase.receipt",
        *(
            pytest.param(point, marks=pytest.mark.long)
            for point in (
                "erase.begun",
                "erase.deleted",
                "erase.files",
                "erase.samples",
                "rewrite.before_commit",
                "tables.before_commit",
                "dlq.before_commit",
            )
        ),
    ],
)
def test_what_was_cut_off_is_gone_on_with(
    shop: Shop, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shop.folder / "faults"
    monkeypatch.setenv(faults.ENV, str(folder))
    faults.arm(folder, point, action="error")
    with suppress(OSError, RayLakeError):
        erase(shop.loaded, DO)
    assert faults.fired(folder)
    shop.verify()
    done = erase(shop.loaded, DO)
    assert done.complete
    assert len(Receipts(str(shop.lake), SystemClock()).all()) in (1, 2)
    assert shop.files_with() == []
    shop.verify()


@pytest.mark.spec("F4")
@pytest.mark.parametrize(
    "point", ["erase.deleted", pytest.param("erase.files", marks=pytest.mark.long)]
)
def test_a_killed_erasure_is_gone_on_with(shop: Shop, point: str) -> None:
    folder = shop.folder / "faults"
    faults.arm(folder, point, skip=1)
    command = [sys.executable, "-m", "raylake", "erase", str(shop.file), "--where", WHERE, "--run"]
    killed = subprocess.run(
        command, env={**os.environ, faults.ENV: str(folder)}, capture_output=True, check=False
    )
    assert killed.returncode == -9, killed
    shop.verify()
    done = erase(shop.loaded, DO)
    assert (done.complete, rows_of(done)) == (True, FOUND)
    assert len(Receipts(str(shop.lake), SystemClock()).all()) == 1
    assert shop.files_with() == []
    shop.verify()


@pytest.mark.spec("F4")
@pytest.mark.parametrize(
    "point",
    [
        "",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("erase.letters", "erase.samples")),
    ],
)
def test_samples_of_failing_values_leave_the_history_of_rules(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.rules = [{"rule": "regex", "column": "customer_id", "pattern": "[a-z]+"}]
    shop.write()
    shop.fill()
    shop.transform()
    history = "_quality/small"
    before = DirectTables().read(shop.address(history), Read()).read_all()
    assert any(one.startswith(history) for one in shop.files_with())
    planned = erase(shop.loaded, EraseOrder(WHERE)).tables["quality"]
    some = sum(map(bool, before["value_sample"].to_pylist()))
    assert planned.searched.startswith(f"{some} results lose their samples")
    assert (planned.rows, some) == (0, 2)
    assert planned.files_removed == [], "its files are live"
    if point:
        monkeypatch.setenv(faults.ENV, str(tmp_path / "faults"))
        faults.arm(tmp_path / "faults", point, action="error")
        with suppress(OSError, RayLakeError):
            erase(shop.loaded, DO)
        assert faults.fired(tmp_path / "faults")
    done = erase(shop.loaded, DO)
    assert (done.complete, done.left) == (True, [])
    assert done.tables["quality"].files_removed
    assert shop.files_with() == []
    after = DirectTables().read(shop.address(history), Read()).read_all()
    assert not any(map(bool, after["value_sample"].to_pylist()))
    said = ["table", "rule", "failed", "rows", "target_version", "measures"]
    counts = before.select(said).to_pylist()
    assert [one for one in counts if one not in after.select(said).to_pylist()] == []
    shop.fill(21)
    shop.transform()
    again = DirectTables().read(shop.address(history), Read("value_sample IS NOT NULL")).read_all()
    assert again.num_rows, "later samples are kept"


@pytest.mark.spec("F4")
def test_what_a_step_set_aside_and_did_not_store_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.fill()
    monkeypatch.setenv(faults.ENV, str(tmp_path / "faults"))
    for _ in range(2):
        faults.arm(tmp_path / "faults", "quality.before_commit", action="error")
        with pytest.raises(OSError, match=r"quality\.before_commit"):
            shop.transform()
    assert rows_of(erase(shop.loaded, EraseOrder(WHERE)))["quarantine"] == 0, "not stored yet"
    done = erase(shop.loaded, DO)
    assert (done.complete, done.left) == (True, [])
    assert done.tables["quarantine"].rows == 2
    assert shop.files_with() == []
    shop.transform()
    assert shop.files_with() == []
    shop.verify()


@pytest.mark.spec("F4")
def test_unfinished_writers_are_spared_and_said(shop: Shop) -> None:
    upload = shop.lake / "bronze" / "orders" / "part-uploading.parquet"
    (live,) = (shop.lake / "bronze" / "orders").glob("part-*.parquet")
    upload.write_bytes(live.read_bytes())
    done = erase(shop.loaded, DO)
    assert upload.exists()
    assert not done.complete
    assert any("no commit names yet" in one and upload.name in one for one in done.left)
    old_s = time.time() - 8 * 86_400
    os.utime(upload, (old_s, old_s))
    assert erase(shop.loaded, DO).complete
    assert not upload.exists()


@pytest.mark.spec("F4")
def test_bad_orders_change_nothing(shop: Shop) -> None:
    for where, wanted in (
        ("custmer_id = 'x'", errors.UnknownColumn),
        ("customer_id = 'x'; drop table t", errors.BadExpression),
        ("customer_id = (select 1)", errors.BadExpression),
    ):
        with pytest.raises(wanted):
            erase(shop.loaded, EraseOrder(where, dry_run=False))
    shop.verify()
    assert len(shop.read("bronze.orders")) == 15


@pytest.mark.spec("F4")
def test_a_table_that_stops_when_rows_leave_is_named_first(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    document = shop.file.read_text()
    changed = document.replace(
        "silver:\n", "silver:\n  copies:\n    from: bronze.orders\n    mode: append\n"
    )
    shop.file.write_text(changed)
    shop.fill()
    shop.transform()
    with pytest.raises(Refused, match=r"silver.copies \(mode append\) stops"):
        erase(shop.loaded, DO)
    shop.file.write_text(
        changed.replace("mode: append\n", "mode: append\n    on_source_delete: ignore\n")
    )
    assert load(shop.file)


@pytest.mark.spec("F4")
def test_erase_by_command(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", str(shop.file), "--where", WHERE]) == 0
    out = capsys.readouterr().out
    assert "nothing was changed" in out
    assert main(["erase", str(shop.file), "--where", WHERE, "--run", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)["erasure"]
    assert said["complete"]
    assert PERSON not in json.dumps(said)
    assert main(["erase", str(shop.file), "--where", "nothing = 1"]) != 0


@pytest.mark.spec("F1", "F4")
def test_verify_says_the_same_before_and_after_the_log_is_cleaned_up(shop: Shop) -> None:
    erase(shop.loaded, DO)
    table = shop.lake / "bronze" / "orders"
    before = shop.verify().totals
    letters = LogReader(dead_letter_path(shop.loaded.config)).snapshot().txns
    stored = letters[app_of(LogReader(str(table)).snapshot().metadata.id)]
    held = checkpoint(table, keep_from=stored, max_log_files=1)
    assert (held.created, held.removed_files) == (True, 0), "the redo has not passed it"
    reader = reader_of("small", "silver.orders")
    assert [one.reader for one in Leases(table).all()] == [reader]
    assert checkpoint(table, keep_from=held.version, max_log_files=1).removed_files == 0
    Leases(table).release(reader)
    assert checkpoint(table, keep_from=held.version, max_log_files=1).removed_files > 0
    assert shop.verify().totals == before
    assert shop.verify("log").totals == before


@pytest.mark.spec("F1", "B3")
def test_failure_27_vacuum_leaves_letters_that_wait_for_their_redo(shop: Shop) -> None:
    """Files of a dead-letter table that a data table's commit names are no left-overs (I5)."""
    folder = Path(dead_letter_path(shop.loaded.config))
    before = {one for one in folder.rglob("*.parquet") if "_delta_log" not in one.parts}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DeadLetterTable, "redo", lambda *_: 0)
        shop.fill(21)
    waiting = {one for one in folder.rglob("*.parquet") if "_delta_log" not in one.parts} - before
    left_over = folder / "part-nobody.parquet"
    left_over.write_bytes(b"never named")
    old_s = time.time() - 60 * 86_400
    for one in (*waiting, left_over):
        os.utime(one, (old_s, old_s))
    assert waiting
    found = vacuum(folder, opened(folder), Vacuum(orphans=True), time.time())
    assert found.paths == (left_over.name,)
    assert all(one.exists() for one in waiting)
    shop.verify("log")
    shop.ingest(list(messages(42))[:1], 42, name="bronze.orders")
    assert shop.verify().totals.dead == 12
