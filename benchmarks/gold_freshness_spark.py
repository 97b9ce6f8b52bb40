"""Kafka to bronze to silver to gold in one session of Structured Streaming on ``local[2]``.

``gold_freshness.py`` starts it: ``gold_freshness_spark.py BOOTSTRAP TOPIC FOLDER``. Three queries
with trigger 0: Kafka into ``bronze``; ``bronze`` into ``silver`` by ``foreachBatch``, the newest
row of each order and one MERGE, with a change feed; that feed into ``gold`` by ``foreachBatch``,
what came minus what left, one MERGE that adds. The last is the quickest there is and, unlike ours,
adds a batch twice where the stream ends between the MERGE and its checkpoint. A line on standard
output says that all run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f
from spark_peer import session_with

EVENT = (
    "order_id long, shard long, customer_id string, version long, amount string, "
    "ordered_at timestamp"
)
BRONZE = f"{EVENT}, topic string, partition int, offset long, timestamp timestamp"
SILVER = BRONZE.replace("amount string", "amount decimal(18,2)")
GOLD = "day date, shard long, orders long, changes long, revenue decimal(28,2)"


def main() -> None:
    bootstrap, topic, folder = sys.argv[1:]
    spark = session_with({})
    places = {name: str(Path(folder) / name) for name in ("bronze", "silver", "gold")}
    _create(spark, places["bronze"], BRONZE)
    _create(spark, places["silver"], SILVER)
    _create(spark, places["gold"], GOLD)
    _follow_kafka(spark, bootstrap, topic, places["bronze"])
    bronze = spark.readStream.format("delta").load(places["bronze"])
    _each(bronze, places["silver"], _into_silver)
    silver = (
        spark.readStream.format("delta")
        .option("readChangeFeed", "true")
        .option("startingVersion", 0)
        .load(places["silver"])
    )
    _each(silver, places["gold"], _into_gold)
    print(json.dumps({"answer": {}}), flush=True)
    spark.streams.awaitAnyTermination()


def _create(spark: SparkSession, path: str, columns: str) -> None:
    made = DeltaTable.create(spark).location(path)
    for column in columns.split(", "):
        made = made.addColumn(*column.split(" "))
    if path.endswith("gold"):
        made = made.partitionedBy("day")
    made.property("delta.enableChangeDataFeed", str(path.endswith("silver")).lower()).execute()


def _follow_kafka(spark: SparkSession, bootstrap: str, topic: str, path: str) -> None:
    payload = f.from_json(f.col("value").cast("string"), EVENT).alias("payload")
    (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
        .select(payload, "topic", "partition", "offset", "timestamp")
        .select("payload.*", "topic", "partition", "offset", "timestamp")
        .writeStream.format("delta")
        .option("checkpointLocation", f"{path}.checkpoint")
        .trigger(processingTime="0 seconds")
        .start(path)
    )


def _each(stream: DataFrame, path: str, into: Callable[[DataFrame, str], None]) -> None:
    (
        stream.writeStream.foreachBatch(lambda batch, _number: into(batch, path))
        .option("checkpointLocation", f"{path}.checkpoint")
        .trigger(processingTime="0 seconds")
        .start()
    )


def _into_silver(batch: DataFrame, path: str) -> None:
    rows = batch.withColumn("amount", f.col("amount").cast("decimal(18,2)"))
    rows = rows.filter("order_id IS NOT NULL AND customer_id IS NOT NULL AND amount IS NOT NULL")
    order = [
        f.col(name).desc() for name in ("version", "timestamp", "topic", "partition", "offset")
    ]
    newest = Window.partitionBy("order_id").orderBy(*order)
    rows = rows.withColumn("_place", f.row_number().over(newest)).filter("_place = 1")
    (
        DeltaTable.forPath(batch.sparkSession, path)
        .alias("target")
        .merge(rows.drop("_place").alias("source"), "target.order_id = source.order_id")
        .whenMatchedUpdateAll("source.version >= target.version")
        .whenNotMatchedInsertAll()
        .execute()
    )


def _into_gold(batch: DataFrame, path: str) -> None:
    came = f.col("_change_type").isin("insert", "update_postimage")
    sign = f.when(came, 1).otherwise(-1)
    sums = (
        batch.groupBy(f.to_date("ordered_at").alias("day"), "shard")
        .agg(
            f.sum(sign).alias("orders"),
            f.sum(sign * f.col("version")).alias("changes"),
            f.sum(sign * f.col("amount")).cast("decimal(28,2)").alias("revenue"),
        )
        .alias("source")
    )
    same = "target.day = source.day AND target.shard = source.shard"
    added = {name: f"target.{name} + source.{name}" for name in ("orders", "changes", "revenue")}
    (
        DeltaTable.forPath(batch.sparkSession, path)
        .alias("target")
        .merge(sums, same)
        .whenMatchedUpdate(set=added)
        .whenNotMatchedInsertAll()
        .execute()
    )


if __name__ == "__main__":
    main()
