"""What a session is told: once for all, and for one table's operations alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from raylake.config.spark import Spark
from raylake.config.stores import Stores
from raylake.kafka.java import Java
from raylake.storage.access import delta_options
from raylake.storage.objects import StorePath
from raylake.storage.place import place
from raylake.tables.errors import FeatureUnsupported

MIB: Final = 2**20
DELTA: Final[Mapping[str, str]] = MappingProxyType(
    {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Hadoop's checksums beside each file on a disk would not fit what delta-rs writes over it.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
    }
)
"""What a session for Delta tables is started with, since it cannot be set later."""
_TASKS_PER_CORE: Final = 4
_S3A: Final = {
    "aws_endpoint": "endpoint",
    "aws_region": "endpoint.region",
    "aws_access_key_id": "access.key",
    "aws_secret_access_key": "secret.key",
    "aws_session_token": "session.token",
}
_PROVIDERS: Final = "org.apache.hadoop.fs.s3a"


@dataclass(frozen=True, slots=True)
class SparkSetup:
    """What a host needs to know; holds references to secrets, and no secret.

    Attributes:
        spark: The configuration.
        stores: How object stores are reached.
        environment: Variables of ours.
        silent_s: Seconds after which a driver that is there and does not answer is ended.
    """

    spark: Spark = field(default_factory=Spark)
    stores: Stores = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    silent_s: float = 120.0


def session_settings(spark: Spark, jars: Sequence[Path], java: Java) -> dict[str, str]:
    """The settings of a session; they show in process lists, so there is no secret in them.

    Args:
        spark: The configuration.
        jars: Those that the driver hands to the executors; none where all have them already.
        java: The runtime of both.
    """
    cores = spark.executors.max * spark.cores
    said = {
        **DELTA,
        "spark.driver.memory": f"{spark.driver_memory_bytes // MIB}m",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.shuffle.partitions": str(_TASKS_PER_CORE * cores),
        # Delta's own number is 50, which is 50 tasks for each commit.
        "spark.databricks.delta.snapshotPartitions": str(min(8, cores)),
    }
    if jars:
        said["spark.jars"] = ",".join(str(jar) for jar in jars)
    if java.options:
        said["spark.executor.extraJavaOptions"] = " ".join(java.options)
    if spark.executors.max > spark.executors.min:
        said |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.minExecutors": str(spark.executors.min),
            "spark.dynamicAllocation.maxExecutors": str(spark.executors.max),
        }
    return said | dict(spark.settings)


def store_settings(table: str) -> dict[str, str]:
    """What a session that works on one table is told about its store; holds secrets.

    Raises:
        FeatureUnsupported: Spark does not reach such a store yet.
        ConfigError: A secret cannot be resolved here.
    """
    root = place(table)
    if not isinstance(root, StorePath):
        return {}
    scheme = root.address.partition("://")[0]
    if scheme != "s3":
        raise FeatureUnsupported(
            f"{table}: Spark reaches tables on disks and in S3, and none in {scheme}:// yet",
            hint="use engine: delta-rs for it",
            feature=f"{scheme} with Spark",
        )
    return _s3a(delta_options(root.address))


def _s3a(options: Mapping[str, str]) -> dict[str, str]:
    said = {f"fs.s3a.{name}": options[key] for key, name in _S3A.items() if key in options}
    virtual = options.get("aws_virtual_hosted_style_request") == "true"
    said["fs.s3a.path.style.access"] = str(not virtual).lower()
    if "aws_secret_access_key" in options:
        of_what = "Temporary" if "aws_session_token" in options else "Simple"
        provider = f"{_PROVIDERS}.{of_what}AWSCredentialsProvider"
        said["fs.s3a.aws.credentials.provider"] = provider
    for name in ("s3", "s3a"):
        said[f"fs.{name}.impl"] = f"{_PROVIDERS}.S3AFileSystem"
        # Hadoop keeps file systems by bucket for the whole process, whatever keys made them.
        said[f"fs.{name}.impl.disable.cache"] = "true"
    return said
