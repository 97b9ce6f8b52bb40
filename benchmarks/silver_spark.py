"""Structured Streaming from bronze to silver on ``local[2]``, in a process of its own.

``silver.py`` starts it: ``silver_spark.py BRONZE SILVER CHECKPOINT``. Each line on its standard
input is one run of the stream over what is new (``availableNow``); it answers with the seconds.
The rows that are there at the start count as processed.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f
from spark_peer import session_with

COUNTRIES = ["AT", "CH", "DE", "DK", "FI", "NO", "SE"]
ORDER = ["updated_at", "_timestamp", "_topic", "_partition", "_offset"]
DROPPED = ["_ingested_at", "_tombstone"]


def main() -> None:
    bronze, silver, checkpoint = sys.argv[1:]
    spark = session_with({})
    start = DeltaTable.forPath(spark, bronze).history(1).first()["version"] + 1
    # A first, small merge into a table of its own: the session is warm.
    small = f"{silver}-small"
    spark.read.format("delta").load(silver).limit(1000).write.format("delta").save(small)
    _merge(spark, small, spark.read.format("delta").load(bronze).limit(5000))
    print(json.dumps({"answer": 0}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        _run(spark, bronze, silver, checkpoint, start)
        print(json.dumps({"answer": time.perf_counter() - began}), flush=True)
    spark.stop()


def _run(spark: SparkSession, bronze: str, silver: str, checkpoint: str, start: int) -> None:
    stream = spark.readStream.format("delta").option("startingVersion", start).load(bronze)

    def write(batch: DataFrame, _number: int) -> None:
        _merge(batch.sparkSession, silver, batch)

    query = (
        stream.writeStream.foreachBatch(write)
        .option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def _merge(spark: SparkSession, silver: str, batch: DataFrame) -> None:
    rows = batch.withColumn("amount", f.col("amount").cast("decimal(18,2)")).drop(*DROPPED)
    good = (
        f.col("order_id").isNotNull()
        & f.col("customer_id").isNotNull()
        & f.col("amount").between(0, 1_000_000)
        & f.col("customer_id").rlike("^c-[0-9]+$")
        & f.col("quantity").between(1, 1000)
    )
    # Rows that break a rule are set aside by ours, too.
    rows = rows.withColumn("_known", f.col("country").isin(COUNTRIES)).filter(good).drop("_known")
    newest = Window.partitionBy("order_id").orderBy(*(f.col(name).desc() for name in ORDER))
    rows = rows.withColumn("_place", f.row_number().over(newest)).filter("_place = 1")
    source: Any = rows.drop("_place").alias("source")
    (
        DeltaTable.forPath(spark, silver)
        .alias("target")
        .merge(source, "target.order_id = source.order_id")
        .whenMatchedUpdateAll("source.updated_at >= target.updated_at")
        .whenNotMatchedInsertAll()
        .execute()
    )


if __name__ == "__main__":
    main()
