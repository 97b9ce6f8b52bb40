"""A Spark Structured Streaming query from a topic to a Delta table, until it is killed.

Arguments: bootstrap, topic, table, checkpoint, Ivy's folder, options for the JVM.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

PACKAGES = "io.delta:delta-spark_2.12:3.3.3,org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.7"
RECORDS_PER_BATCH = 60


def main() -> None:
    bootstrap, topic, table, checkpoint, ivy = sys.argv[1:6]
    settings = {
        "spark.jars.packages": PACKAGES,
        "spark.jars.ivy": ivy,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.driver.memory": "700m",
        "spark.ui.enabled": "false",
        "spark.log.level": "WARN",
    }
    builder = SparkSession.builder.master("local[2]").appName("theirs")
    for name, value in settings.items():
        builder = builder.config(name, value)
    stream = (
        builder.getOrCreate()
        .readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", RECORDS_PER_BATCH)
        .load()
        .selectExpr("CAST(value AS STRING) AS value", "topic", "partition", "offset")
    )
    query = stream.writeStream.format("delta").option("checkpointLocation", checkpoint).start(table)
    query.awaitTermination()


if __name__ == "__main__":
    main()
