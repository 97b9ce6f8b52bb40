"""Spark reads what delta-rs and our own writer leave behind: every kind of table and column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylake.delta.files import WriteOptions, write_data_files
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Read, Write
from raylake.tables.upkeep_requests import (
    AddColumns,
    AddConstraint,
    Checkpoint,
    Clone,
    Compact,
    Convert,
    Repartition,
    SetNotNull,
    SetProperties,
    WidenColumns,
    ZOrder,
)
from tests.harness.readers import by_spark, rows_in_order
from tests.harness.tables import NOON
from tests.harness.vectors import delete_by_vector
from tests.unit.delta.kinds import every_kind

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENGINE = DeltaRsEngine()
SCHEMA = pa.schema(
    [
        ("id", pa.int32()),
        ("part", pa.string()),
        ("ratio", pa.float32()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


def rows(start: int, count: int) -> pa.Table:
    ids = range(start, start + count)
    values = {
        "id": list(ids),
        "part": [f"p {one % 3}" for one in ids],
        "ratio": [one / 2 for one in ids],
        "at": [NOON] * count,
    }
    return pa.table(values, schema=SCHEMA)


def table(path: Path, *operations: Write, partition_by: tuple[str, ...] = ()) -> Path:
    ENGINE.execute(str(path), Create(SCHEMA, partition_by))
    for start in range(0, 30, 10):
        ENGINE.execute(str(path), Append(rows(start, 10)))
    for one in operations:
        ENGINE.execute(str(path), one)
    return path


@pytest.mark.spec("C4", "C7", "F1")
def test_spark_reads_what_upkeep_leaves_behind(spark: SparkSession, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    holed = table(lake / "holed")
    delete_by_vector(holed, [1, 2])
    ENGINE.execute(str(holed), Compact())
    delete_by_vector(holed, [4])
    ruled = (AddConstraint("low", "id >= 0 and part <> 'x'"), SetNotNull("part"))
    vectors = SetProperties({"delta.enableDeletionVectors": "true"})
    added = AddColumns(pa.schema([pa.field("more", pa.timestamp("us"))]))
    wider = WidenColumns({"id": pa.int64(), "ratio": pa.float64()})
    source = table(lake / "source", partition_by=("part",))
    tables = {
        "holed": holed,
        "compacted": table(lake / "compacted", Compact(), Checkpoint(), partition_by=("part",)),
        "ordered": table(lake / "ordered", ZOrder(("id", "part"))),
        "widened": table(lake / "widened", wider, Append(rows(30, 5))),
        "parted": table(lake / "parted", Repartition(("part", "id"))),
        "altered": table(lake / "altered", *ruled, vectors, added),
        "source": source,
        "deep": lake / "deep",
        "shallow": lake / "shallow",
        "converted": lake / "converted",
    }
    ENGINE.execute(str(tables["deep"]), Clone(str(source), version=2))
    ENGINE.execute(str(tables["shallow"]), Clone(str(source), deep=False))
    ENGINE.execute(str(tables["shallow"]), Append(rows(90, 2)))
    for place, start in (("day=2026-01-31", 0), ("day=__HIVE_DEFAULT_PARTITION__", 5)):
        (tables["converted"] / place).mkdir(parents=True)
        pq.write_table(
            rows(start, 5),
            tables["converted"] / place / "a b.parquet",
            use_deprecated_int96_timestamps=True,
        )
    ENGINE.execute(str(tables["converted"]), Convert())
    found = by_spark(spark, tables, tmp_path)
    for name, path in tables.items():
        ours = ENGINE.read(str(path), Read()).read_all()
        assert found[name].schema.names == ours.schema.names, name
        assert rows_in_order(found[name], "id") == rows_in_order(ours, "id"), name


def test_spark_reads_every_kind_of_column_in_the_encodings_of_our_data_files(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows, plain = every_kind(), tmp_path / "plain.parquet"
    (file,) = write_data_files(tmp_path / "ours", rows, rows.schema, options=WriteOptions("none"))
    pq.write_table(rows, plain)
    for vectorized in ("true", "false"):
        session = spark.newSession()
        session.conf.set("spark.sql.parquet.enableVectorizedReader", vectorized)
        mine = session.read.parquet(str(tmp_path / "ours" / file.path))
        yours = session.read.parquet(str(plain))
        assert mine.count() == yours.count() == rows.num_rows
        assert mine.exceptAll(yours).count() == 0
