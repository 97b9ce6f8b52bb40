"""What a session is told: once for all, and for one table's operations alone."""

from __future__ import annotations

import hashlib
import json
import re
import threading
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
_S3A_ALWAYS: Final = {
    # On heap, in few and small parts: S3A's files on disk need a file system that Delta's sessions
    # do not have.
    "fast.upload.buffer": "array",
    "fast.upload.active.blocks": "2",
    "multipart.size": "16M",
    # Not every server that speaks S3 takes many deletes at once; here they are few.
    "multiobjectdelete.enable": "false",
    # By its own numbers a server that does not answer is waited for for a quarter of an hour.
    "attempts.maximum": "3",
    "retry.limit": "4",
    "connection.establish.timeout": "5000",
    "connection.timeout": "60000",
}
SCHEME: Final = "raylake.s3.scheme"
"""A session's setting: what addresses in S3 begin with in it."""
ANY_KEYS: Final = re.compile(r"\bs3(a|-\d+)://")
"""How addresses in S3 may begin in a session."""
_LOG_STORE: Final = "io.delta.storage.S3SingleDriverLogStore"
_schemes: dict[str, str] = {}
_naming = threading.Lock()


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

    Hadoop keeps a file system, and Delta a log, by the address that it was asked for, whatever keys
    made it. So addresses begin with another scheme for each way to reach a store
    (:data:`SCHEME`): what one is given no other one can find.

    Raises:
        FeatureUnsupported: Spark does not reach such a store yet.
        ConfigError: A secret cannot be resolved here.
    """
    root = place(table)
    refuse_unreached(table)
    return _s3a(delta_options(root.address)) if isinstance(root, StorePath) else {}


def refuse_unreached(table: str) -> None:
    """Refuse a table in a store that Spark does not reach.

    Raises:
        FeatureUnsupported: Naming the store, and what works on it.
    """
    scheme, found, _ = table.partition("://")
    if found and scheme != "s3":
        raise FeatureUnsupported(
            f"{table}: Spark reaches tables on disks and in S3, and none in {scheme}://",
            hint="engine: delta-rs works on it",
            feature=f"{scheme} with Spark",
        )


def _s3a(options: Mapping[str, str]) -> dict[str, str]:
    said = {f"fs.s3a.{name}": options[key] for key, name in _S3A.items() if key in options}
    virtual = options.get("aws_virtual_hosted_style_request") == "true"
    said |= {f"fs.s3a.{name}": value for name, value in _S3A_ALWAYS.items()}
    said["fs.s3a.path.style.access"] = str(not virtual).lower()
    if "aws_secret_access_key" in options:
        of_what = "Temporary" if "aws_session_token" in options else "Simple"
        provider = f"{_PROVIDERS}.{of_what}AWSCredentialsProvider"
        said["fs.s3a.aws.credentials.provider"] = provider
    for name in ("s3", "s3a"):
        # Files that a shallow clone names are called so: never with what another session was given.
        said[f"fs.{name}.impl"] = f"{_PROVIDERS}.S3AFileSystem"
        said[f"fs.{name}.impl.disable.cache"] = "true"
    scheme = _scheme_of(said)
    return said | {SCHEME: scheme, f"fs.{scheme}.impl": f"{_PROVIDERS}.S3AFileSystem"}


def log_store_setting(said: Mapping[str, str]) -> tuple[str, str] | None:
    """What the whole process is told of a session's scheme: how Delta keeps a log there.

    Args:
        said: The session's :func:`store_settings`.
    """
    scheme = said.get(SCHEME)
    return None if scheme is None else (f"spark.delta.logStore.{scheme}.impl", _LOG_STORE)


def _scheme_of(said: Mapping[str, str]) -> str:
    """The scheme of one way to reach a store; another one for other keys."""
    known = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    with _naming:
        return _schemes.setdefault(known, f"s3-{len(_schemes) + 1}")
