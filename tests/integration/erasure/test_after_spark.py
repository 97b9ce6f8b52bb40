"""A person leaves tables that Spark wrote last: its files, vectors, checkpoints and checksums."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raylake.client.erasing import EraseOrder, erase
from raylake.delta.log_reader import LogReader
from tests.integration.erasure.shop import PERSON, WHERE, Shop, messages

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.long
@pytest.mark.spec("F4", "C4")
def test_a_person_leaves_tables_that_spark_wrote_last(spark: SparkSession, tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.fill()
    shop.fill(21)
    shop.transform()
    session = spark.newSession()
    bronze, silver, gold = (
        f"delta.`{shop.lake / one}`" for one in ("bronze/orders", "silver/orders", "gold/customers")
    )
    session.sql(f"OPTIMIZE {bronze}")
    for table in (silver, gold):
        session.sql(
            f"ALTER TABLE {table} SET TBLPROPERTIES "
            "('delta.enableDeletionVectors' = 'true', 'delta.checkpointInterval' = '1')"
        )
    (last,) = session.sql(
        f"SELECT max(order_id) FROM {silver} WHERE customer_id = '{PERSON}'"
    ).first()
    session.sql(f"DELETE FROM {silver} WHERE order_id = '{last}'")
    session.sql(f"DELETE FROM {gold} WHERE customer_id = '{PERSON}' AND segment = 'b'")
    protocol = LogReader(str(shop.lake / "silver" / "orders")).snapshot().protocol
    assert "deletionVectors" in protocol.writer_features
    assert list((shop.lake / "silver").rglob("deletion_vector_*.bin"))
    assert list((shop.lake / "silver").rglob("*.crc"))
    others = [one for one in shop.read("silver.orders") if one["customer_id"] != PERSON]
    done = erase(shop.loaded, EraseOrder(WHERE, dry_run=False))
    assert (done.complete, done.left) == (True, [])
    assert shop.files_with() == []
    assert sorted(map(repr, shop.read("silver.orders"))) == sorted(map(repr, others))
    assert done.tables["silver.orders"].log_files_left
    shop.verify()
    done = erase(shop.loaded, EraseOrder(WHERE, dry_run=False, and_logs=True))
    assert (done.complete, done.left) == (True, [])
    assert shop.all_with() == []
    shop.verify()
    rows = session.read.format("delta").load(str(shop.lake / "silver" / "orders"))
    assert rows.count() == len(others)
    shop.ingest(list(messages(42))[:1], 42, name="bronze.orders")
    shop.transform()
    assert len(shop.read("silver.orders")) == len(others) + 1
