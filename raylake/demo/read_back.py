"""Lines to paste that read a finished lake in DuckDB, polars and Spark."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from raylake.kafka.java import find_java

SPARK_PACKAGE = "io.delta:delta-spark_2.12:3.3.3"
_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"


@dataclass(frozen=True, slots=True)
class ReadBack:
    """One shell line per engine; each prints rows of the table and needs no RayLake.

    A line whose package is not installed here begins with its installation.

    Attributes:
        duckdb: Reads the log with deltalake and the rows with DuckDB (whose own delta extension
            is a download, which machines without a network lack).
        polars: Reads with polars.
        spark: Reads with Spark and Delta's Spark package, which Spark downloads.
    """

    duckdb: str
    polars: str
    spark: str

    def lines(self) -> tuple[str, str, str]:
        """The three lines, in the order DuckDB, polars, Spark."""
        return self.duckdb, self.polars, self.spark


def read_back(table: Path | str, python: str = sys.executable) -> ReadBack:
    """The lines for one table.

    Args:
        table: The table's folder; made absolute, so that the lines work from anywhere.
        python: The interpreter that has the packages; Spark's commands are beside it.

    Raises:
        ConfigError: There is no Java that Spark could run on.
    """
    path = str(Path(table).resolve())
    place = json.dumps(path)
    # deltalake's addresses are URL-encoded, which DuckDB's and polars' file readers do not undo.
    files = f"[unquote(uri) for uri in DeltaTable({place}).file_uris()]"
    imports = "from urllib.parse import unquote; from deltalake import DeltaTable; import"
    duckdb = (
        f"{imports} duckdb; duckdb.read_parquet({files}, union_by_name=True)"
        ".aggregate('_partition, count(*) AS n, max(_offset) AS last').order('_partition').show()"
    )
    scan = f"import polars as pl; frame = pl.scan_delta({place})"
    if quote(path) != path:
        scan = (
            f"{imports} polars as pl; frame = pl.scan_parquet({files},"
            " missing_columns='insert', extra_columns='ignore')"
        )
    polars = (
        f"{scan}; print(frame.group_by('_partition').agg(pl.len(), pl.max('_offset'))"
        ".sort('_partition').collect())"
    )
    columns = "_partition, count(*), max(_offset)"
    query = f"FROM delta.`{path}` SELECT {columns} GROUP BY _partition ORDER BY _partition"
    spark = (
        f"{_spark_sql(python)} --packages {SPARK_PACKAGE}"
        " --conf spark.sql.catalogImplementation=in-memory"
        " --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension"
        f" --conf spark.sql.catalog.spark_catalog={_CATALOG} -e {shlex.quote(query)}"
    )
    program = shlex.quote(python)
    return ReadBack(
        duckdb=f"{program} -c {shlex.quote(duckdb)}",
        polars=f"{_install('polars', 'polars', python)}{program} -c {shlex.quote(polars)}",
        spark=f"{_install('pyspark', 'raylake[spark]', python)}{spark}",
    )


def _spark_sql(python: str) -> str:
    """Works without an activated environment and without a Java of the system."""
    java = find_java()
    home = java.executable.resolve().parent.parent
    line = f"JAVA_HOME={shlex.quote(str(home))} PYSPARK_PYTHON={shlex.quote(python)} "
    line += shlex.quote(str(Path(python).with_name("spark-sql")))
    if java.options:
        line += f" --driver-java-options {shlex.quote(' '.join(java.options))}"
    return line


def _install(package: str, requirement: str, python: str) -> str:
    if find_spec(package) is not None:
        return ""
    return f"{shlex.quote(python)} -m pip install {shlex.quote(requirement)} && "
