"""A person leaves a lake that lies in an object store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raylake.cli.main import main
from raylake.client.erasing import EraseOrder
from raylake.config import dead_letter_path
from raylake.storage.dev import StoreInfo
from raylake.storage.place import place
from raylake.tables.requests import Read
from raylake.tables.service import DirectTables
from tests.harness.store import access_to, store, store_lake
from tests.integration.erasure.shop import PERSON, WHERE, Shop

__all__ = ["store", "store_lake"]

DO = EraseOrder(WHERE, dry_run=False)


@pytest.fixture
def shop(tmp_path: Path, store: StoreInfo, store_lake: str) -> Shop:
    made = Shop(tmp_path, store_lake, {f"s3://{store.bucket}": access_to(store)})
    made.fill()
    made.transform()
    return made


def letters(shop: Shop) -> list[dict[str, Any]]:
    at = dead_letter_path(shop.loaded.config)
    found: list[dict[str, Any]] = DirectTables().read(at, Read()).read_all().to_pylist()
    return found


@pytest.mark.spec("F4", "C8")
def test_a_person_leaves_all_layers_in_a_store(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {one.split("/")[0] for one in shop.files_with()} == {
        "bronze", "silver", "gold", "quarantine", "dead_letters"
    }  # fmt: skip
    (planned, done) = (erase_by_command(shop, capsys, *more) for more in ((), ("--run",)))
    assert planned["dry_run"]
    assert (done["complete"], done["left"], done["rows"]) == (True, [], planned["rows"])
    assert done["rows"] == 15
    assert shop.files_with() == []
    assert all(of["files_removed"] for of in done["tables"].values() if of["rows"])
    assert shop.verify().totals.dropped == 5
    erased = [one for one in letters(shop) if one["stage"] == "erased"]
    assert [(one["key"], one["value"]) for one in erased] == [(None, None)] * 2
    root = place(shop.where) / "_raylake" / "erasures"
    assert PERSON not in (root / f"{done['erasure_id']}.json").read_text()
    (row,) = DirectTables().read(str(root / "receipts"), Read()).read_all().to_pylist()
    assert (row["erasure_id"], row["complete"]) == (done["erasure_id"], True)
    shop.transform()
    assert shop.files_with() == []


def erase_by_command(shop: Shop, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert main(["erase", str(shop.file), "--where", WHERE, "-o", "json", *more]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)["erasure"]
    return said
