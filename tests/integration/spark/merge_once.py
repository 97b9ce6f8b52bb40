"""The child process of the RayDP smoke test: its own cluster, Spark in an actor, three MERGEs.

Arguments: the table, Ivy's folder, options for the JVM. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ray
import raydp

APP_ID = "raylake/owner"
CPUS = 2
_DELTA = "io.delta:delta-spark_2.12:3.3.3"
_CPUS_BACK_WITHIN_S = 60.0


@ray.remote(num_cpus=0, max_restarts=0)
class SparkHost:
    """One Spark session at a time; each operation in a session of its own."""

    def start(self, ivy: str, java_options: str) -> None:
        self._spark = raydp.init_spark(
            app_name="merge-once",
            num_executors=1,
            executor_cores=1,
            executor_memory="512m",
            configs={
                "spark.jars.packages": _DELTA,
                "spark.jars.ivy": ivy,
                "spark.driver.memory": "512m",
                "spark.driver.extraJavaOptions": java_options,
                "spark.ui.enabled": "false",
                "spark.sql.shuffle.partitions": "1",
                "spark.databricks.delta.snapshotPartitions": "1",
                "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
                "spark.sql.catalog.spark_catalog": (
                    "org.apache.spark.sql.delta.catalog.DeltaCatalog"
                ),
            },
        )

    def merge(self, table: str, rows: list[tuple[int, str]], number: int) -> dict[str, Any]:
        session = self._spark.newSession()
        session.conf.set("spark.databricks.delta.write.txnAppId", APP_ID)
        session.conf.set("spark.databricks.delta.write.txnVersion", str(number))
        session.createDataFrame(rows, "id long, v string").createOrReplaceTempView("source")
        session.sql(
            f"MERGE INTO delta.`{table}` t USING source s ON t.id = s.id"
            " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        )
        reader = self._spark.newSession()
        found = reader.sql(f"SELECT id, v FROM delta.`{table}` ORDER BY id").collect()
        history = reader.sql(f"DESCRIBE HISTORY delta.`{table}`").collect()
        return {"rows": [list(row) for row in found], "version": history[0]["version"]}

    def pandas_round_trip(self) -> list[list[Any]]:
        frame = self._spark.createDataFrame([(1, "a"), (2, "b")], "id long, v string").toPandas()
        return [list(row) for row in self._spark.createDataFrame(frame).collect()]

    def stop(self) -> None:
        raydp.stop_spark()


def _free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def _wait_for_cpus(wanted: float) -> float:
    deadline = time.monotonic() + _CPUS_BACK_WITHIN_S
    while (free := _free_cpus()) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return free


def main(table: str, ivy: str, java_options: str) -> dict[str, Any]:
    ray.init(
        num_cpus=CPUS,
        object_store_memory=150 * 1024**2,
        include_dashboard=False,
        log_to_driver=False,
    )
    answer: dict[str, Any] = {"cpus_before": _free_cpus()}
    host = SparkHost.remote()
    ray.get(host.start.remote(ivy, java_options))
    answer["cpus_during"] = _free_cpus()
    answer["first"] = ray.get(host.merge.remote(table, [(2, "first"), (9, "first")], 1))
    answer["again"] = ray.get(host.merge.remote(table, [(2, "again"), (8, "again")], 1))
    answer["next"] = ray.get(host.merge.remote(table, [(3, "next")], 2))
    answer["pandas"] = ray.get(host.pandas_round_trip.remote())
    ray.get(host.stop.remote())
    answer["cpus_after"] = _wait_for_cpus(CPUS)
    ray.shutdown()
    return answer


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
