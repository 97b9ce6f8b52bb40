"""What an erasure says to bad input: real disks, keys, checkpoints and features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable

from raylake.cli.main import main
from raylake.delta.log_store import files_of
from raylake.storage.dev import StoreInfo
from tests.harness.disk import SmallDisk, small_disk
from tests.harness.read_only_keys import Access, reader_keys
from tests.harness.store import access_to, store, store_lake
from tests.integration.erasure.shop import PERSON, WHERE, Shop

__all__ = ["reader_keys", "small_disk", "store", "store_lake"]

Erase = Callable[..., tuple[int, Any, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Erase:
    """Type ``raylake erase … --run``: exit code, its JSON, its error."""

    def typed(shop: Shop) -> tuple[int, Any, Any]:
        capsys.readouterr()
        code = main(["erase", str(shop.file), "--where", WHERE, "--run", "-o", "json"])
        said = capsys.readouterr()
        error = json.loads(said.err)["error"] if said.err.startswith("{") else said.err
        return code, json.loads(said.out)["erasure"] if said.out else None, error

    return typed


def filled(shop: Shop) -> Shop:
    shop.fill()
    shop.transform()
    return shop


def tree(shop: Shop) -> dict[str, int]:
    """All files and their bytes, but for locks and leases."""
    return {
        name: size for name, size in files_of(shop.where).tree("").items() if "lock" not in name
    }


def ends_well(shop: Shop, run: Erase) -> None:
    code, said, error = run(shop)
    assert (code, said["complete"]) == (0, True), error
    assert shop.files_with() == []
    shop.verify()


@pytest.mark.spec("F4")
def test_where_there_is_no_table_yet_and_where_one_is_none(tmp_path: Path, run: Erase) -> None:
    shop = Shop(tmp_path)
    code, _, error = run(shop)
    assert (code, "there is no table yet" in str(error)) == (2, True)
    folder = tmp_path / "lake" / "bronze" / "orders"
    folder.mkdir(parents=True)
    (folder / "a.parquet").write_bytes(b"PAR1")
    code, _, error = run(shop)
    assert (code, "there is no table yet" in str(error)) == (2, True)
    assert not (tmp_path / "lake" / "_raylake").exists()


@pytest.mark.spec("F4")
@pytest.mark.parametrize(
    "table", [pytest.param("bronze/orders", marks=pytest.mark.long), "gold/customers"]
)
def test_a_feature_that_nobody_knows_is_named_before_anything_leaves(
    tmp_path: Path, run: Erase, table: str
) -> None:
    shop = filled(Shop(tmp_path))
    at = shop.lake / table
    entry = at / "_delta_log" / f"{DeltaTable(at).version() + 1:020d}.json"
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    features = {"readerFeatures": ["icecreamTable"], "writerFeatures": ["icecreamTable"]}
    entry.write_text(json.dumps({"protocol": {**protocol, **features}}))
    before = tree(shop)
    code, _, error = run(shop)
    assert (code, "icecreamTable" in str(error)) == (5, True), error
    assert tree(shop) == before
    entry.unlink()
    ends_well(shop, run)


@pytest.mark.spec("F4")
@pytest.mark.parametrize("left_bytes", [0, pytest.param(2**14, marks=pytest.mark.long)])
def test_a_disk_without_room(
    small_disk: Callable[[str], SmallDisk], tmp_path: Path, run: Erase, left_bytes: int
) -> None:
    """Needs root: a file system of its own is mounted."""
    disk = small_disk("disk")
    shop = filled(Shop(tmp_path, str(disk.place / "lake")))
    shop.lake = disk.place / "lake"
    disk.fill()
    disk.leave(left_bytes)
    code, _, error = run(shop)
    assert (code, error["code"]) == (5, "not_enough_space"), error
    people = {one["customer_id"] for one in shop.read("bronze.orders")}
    assert PERSON in people
    disk.free()
    ends_well(shop, run)


@pytest.mark.spec("F4")
def test_a_disk_that_may_only_be_read(
    small_disk: Callable[[str], SmallDisk], tmp_path: Path, run: Erase
) -> None:
    """Needs root: a file system of its own is mounted."""
    disk = small_disk("disk")
    shop = filled(Shop(tmp_path, str(disk.place / "lake")))
    before = tree(shop)
    disk.writable(on=False)
    code, _, error = run(shop)
    assert (code, "may this user write" in error["hint"]) == (5, True), error
    disk.writable(on=True)
    assert tree(shop) == before
    ends_well(shop, run)


@pytest.mark.spec("F4", "C8")
def test_keys_that_may_only_read(
    store: StoreInfo,
    store_lake: str,
    reader_keys: Callable[[], Access],
    tmp_path: Path,
    run: Erase,
) -> None:
    shop = filled(Shop(tmp_path, store_lake, {f"s3://{store.bucket}": access_to(store)}))
    before = tree(shop)
    document = yaml.safe_load(shop.file.read_text())
    document["stores"] = {f"s3://{store.bucket}": reader_keys()}
    shop.file.write_text(yaml.safe_dump(document))
    code, _, error = run(shop)
    assert (code, "put and delete" in error["hint"]) == (2, True), error
    assert tree(shop) == before


@pytest.mark.spec("F4")
@pytest.mark.parametrize(
    "table", [pytest.param("bronze/orders", marks=pytest.mark.long), "silver/orders"]
)
def test_a_damaged_checkpoint_is_named_and_repaired_on_request(
    tmp_path: Path, run: Erase, table: str
) -> None:
    shop = filled(Shop(tmp_path))
    at = shop.lake / table
    DeltaTable(at).create_checkpoint()
    (file,) = (at / "_delta_log").glob("*.checkpoint.parquet")
    file.write_bytes(file.read_bytes()[:100])
    before = tree(shop)
    code, _, error = run(shop)
    assert (code, error["code"], file.name in error["message"]) == (5, "log_damaged", True), error
    assert tree(shop) == before
    if table.startswith("bronze"):
        # Its owner's table: by hand, as the hint says.
        file.unlink()
        (at / "_delta_log" / "_last_checkpoint").unlink()
    else:
        assert main(["table", "repair", str(at)]) == 0
    ends_well(shop, run)
