"""The child process of the readers' test: one Spark session writes what it reads as plain Parquet.

Arguments: Ivy's folder, a JSON object of Delta tables and the folders that their rows go to.
"""

from __future__ import annotations

import json
import sys

from pyspark.sql import SparkSession

_DELTA = "io.delta:delta-spark_2.12:3.3.3"


def session_of(ivy: str) -> SparkSession:
    """A session with Delta, of one thread."""
    settings = {
        "spark.jars.packages": _DELTA,
        "spark.jars.ivy": ivy,
        "spark.driver.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }
    builder = SparkSession.builder.master("local[1]").appName("read-tables")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main(ivy: str, tables: dict[str, str]) -> None:
    session = session_of(ivy)
    for table, out in tables.items():
        session.read.format("delta").load(table).coalesce(1).write.parquet(out)
    session.stop()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
