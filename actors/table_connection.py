"""The service that ``raylake.connect(address=…)`` takes for its tables, found by its name."""

from __future__ import annotations

from actors.spark_calls import RaySparkHost
from actors.table_service import Cluster, RayTables, environment
from raylake.config.spark import Spark
from raylake.spark.errors import SparkNotInstalled
from raylake.spark.session import refuse_missing
from raylake.spark.settings import SparkSetup
from raylake.storage.access import stores_from_json, used_stores
from raylake.tables.service import TableService


def on_cluster(spark: Spark) -> TableService:
    """The service of the cluster that this process has joined, with its Spark host.

    Args:
        spark: What the host is started with, where there is none yet.
    """
    variables = environment()
    try:
        refuse_missing()
    except SparkNotInstalled as error:
        return RayTables(Cluster(no_spark=error.message, environment=variables))
    setup = SparkSetup(spark, stores_from_json(used_stores()), variables)
    return RayTables(Cluster(spark=RaySparkHost(setup), environment=variables))
