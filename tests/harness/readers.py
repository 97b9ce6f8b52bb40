"""The same Delta table through the engines that users have, each by its own reader."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder

from raylake.kafka.artifacts import cache_folder, file_lock
from tests.harness.spark import java_17

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]
SPARK_TIMEOUT_S = 300
_AS_USERS_HAVE_IT = {
    # The session of the tests is told otherwise.
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.databricks.delta.snapshotPartitions": "1",
}
_DUCKDB_TYPES = {
    "string": "VARCHAR",
    "date": "DATE",
    "integer": "INTEGER",
    "long": "BIGINT",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}


def by_delta_rs(table: Path) -> pa.Table:
    """What delta-rs reads."""
    query = QueryBuilder().register("t", DeltaTable(table)).execute("SELECT * FROM t")
    return pa.table(query.read_all())


def by_polars(table: Path) -> pa.Table:
    """What polars reads."""
    return pl.scan_delta(str(table)).collect().to_arrow()


def by_duckdb(table: Path) -> pa.Table:
    """What DuckDB reads of the log's live files, with its own Parquet reader.

    DuckDB's own Delta extension is a download; ``raylake demo`` prints this way, too. Partition
    values come from the folders' names. What a file has and the table has not is passed over, as
    every reader does: where the change feed is on, Spark's files have ``_change_type``.
    """
    delta = DeltaTable(table)
    types = {field.name: field.type for field in delta.schema().fields}
    hive = {name: _DUCKDB_TYPES[types[name].type] for name in delta.metadata().partition_columns}
    options = f", hive_partitioning=true, hive_types={hive!r}" if hive else ""
    # A path in the log is URL-encoded once, whatever stands in the folder's own name.
    paths = pa.table(delta.get_add_actions()).column("path").to_pylist()
    files = [str(table / unquote(path)) for path in paths]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in types)
        query = f"SELECT {names} FROM read_parquet(?, union_by_name=true{options})"
        return connection.sql(query, params=[files]).to_arrow_table()


READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    "delta-rs": by_delta_rs,
    "polars": by_polars,
    "DuckDB": by_duckdb,
}


def by_spark(spark: SparkSession, tables: Mapping[str, Path], folder: Path) -> dict[str, pa.Table]:
    """What Spark reads of each table, by its own Delta and its own readers' defaults.

    Args:
        spark: The session of the tests; a file that uses it is named in `tests/conftest.py`.
        tables: Delta tables by name.
        folder: Takes what Spark read, as plain Parquet.
    """
    session = spark.newSession()
    for name, value in _AS_USERS_HAVE_IT.items():
        session.conf.set(name, value)
    for name, table in tables.items():
        session.read.format("delta").load(str(table)).coalesce(1).write.parquet(str(folder / name))
    return {name: pq.read_table(folder / name) for name in tables}


def in_spark(module: str, folder: Path, *arguments: str) -> str:
    """What a module prints that starts a Spark session of its own; a process of its own.

    Args:
        module: Gets Ivy's folder and then ``arguments``.
        folder: Where it runs.
        *arguments: The others.
    """
    java = java_17()
    ivy = cache_folder() / "ivy"
    with file_lock(cache_folder() / "ivy.lock"):
        done = subprocess.run(
            [sys.executable, "-m", module, str(ivy), *arguments],
            cwd=folder,
            env={
                **os.environ,
                "JAVA_HOME": str(java.executable.resolve().parent.parent),
                "SPARK_SUBMIT_OPTS": " ".join(java.options),
                "PYSPARK_PYTHON": sys.executable,
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            timeout=SPARK_TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


def rows_in_order(table: pa.Table, *order: str) -> list[dict[str, Any]]:
    """Rows as plain values, sorted; of each value only what it says, not how an engine holds it."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]
    return sorted(rows, key=lambda row: [row[name] for name in order])


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return zoned.astimezone(dt.UTC).isoformat()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in sorted(value.items())}
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return [{"key": _plain(key), "value": _plain(one)} for key, one in value]  # a map
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
