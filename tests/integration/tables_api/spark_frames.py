"""The child process of the Spark test: one session, given and found, prints what it reads.

Arguments: Ivy's folder, the lake.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from pyspark.sql import SparkSession

import raylake
from raylake.errors import ConfigError
from tests.harness.spark import PACKAGE


def session_of(ivy: str) -> SparkSession:
    """A session with Delta, of one thread."""
    settings = {
        "spark.jars.packages": PACKAGE,
        "spark.jars.ivy": ivy,
        "spark.driver.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }
    builder = SparkSession.builder.master("local[1]").appName("read-tables")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main(ivy: str, where: str) -> None:
    orders = raylake.connect(where).table("silver.orders")
    try:
        orders.read().to_spark()
        without = "a session was found"
    except ConfigError as error:
        without = error.message
    session = session_of(ivy)
    with ThreadPoolExecutor(1) as others:
        # No session is active in a thread that has made none.
        elsewhere = others.submit(lambda: orders.read().to_spark().count()).result()
    pinned = orders.read("amount = 2 AND region = 'r1'", ["id"])
    frame = pinned.to_spark(session)
    feed = orders.changes(from_version=2, to_version=2, ignore_deletes=True)
    inserts = orders.changes(from_version=1, to_version=2, ignore_changes=True)
    orders.delete("true")
    found = {
        "without": without,
        "elsewhere": elsewhere,
        "columns": frame.columns,
        "ids": sorted(row["id"] for row in frame.collect()),
        "old": orders.read(version=1).to_spark().count(),
        "feed": feed.to_spark().count(),
        "inserts": inserts.to_spark().count(),
        "now": orders.read().to_spark().count(),
    }
    print(json.dumps(found))
    session.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
