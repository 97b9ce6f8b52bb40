"""Tables and readers in an S3-compatible store."""

from __future__ import annotations

import pytest

import raylake
from raylake.config.stores import StoreAccess
from raylake.storage.access import use_stores
from raylake.storage.dev import StoreInfo
from raylake.storage.place import place
from raylake.tables import errors
from raylake.tables.data_files import file_scan, read_file
from raylake.tables.requests import Read
from tests.harness.store import access_to
from tests.integration.tables_api.conftest import FEED, SCHEMA, ids, rows


@pytest.mark.spec("C3", "C8")
def test_a_lake_in_a_store_with_access_of_its_own(store: StoreInfo, store_lake: str) -> None:
    use_stores({})
    access = {**access_to(store), "allow_http": True}
    StoreAccess.model_validate(access)
    lake = raylake.connect(store_lake, storage={f"s3://{store.bucket}": access})
    table = lake.table("silver.orders")
    table.create(SCHEMA, properties=FEED)
    table.append(rows(range(100)))
    table.merge(rows(range(50, 150), amount=2), "id")
    assert [one.name for one in lake.tables()] == ["silver.orders"]
    assert ids(table.read().to_arrow()) == list(range(150))
    assert table.read(version=1).to_arrow().num_rows == 100
    assert [line.version for line in table.versions()] == [2, 1, 0]
    scan, files = file_scan(place(table.address), Read(version=2)) or (None, [])
    assert scan is not None
    assert sum(b.num_rows for one in files for b in read_file(scan, one)) == 150
    reader, slow = table.reader("mart"), table.reader("mart")
    late = slow.read_new()
    with reader.read_new() as new:
        assert new.to_arrow().num_rows == 150
    with pytest.raises(errors.ReaderMoved):
        late.commit()
    new.commit()
    table.delete("id = 7")
    with reader.read_new() as new:
        assert new.to_arrow().column("_change_type").to_pylist() == ["delete"]
    assert table.reader("mart").version == 3
    with pytest.raises(errors.TableMissing):
        lake.table("silver.other").read()
