"""Rows of a table as a Spark frame, in a session that the caller has."""

from __future__ import annotations

from typing import Any

from raylake.errors import ConfigError
from raylake.storage.place import place
from raylake.tables.expressions import Scope, condition
from raylake.tables.pins import Pin, schema_at
from raylake.tables.requests import Changes


def spark_rows(table: str, pin: Pin, session: Any = None) -> Any:
    """A frame of one version.

    Args:
        table: The table's address.
        pin: The version, columns and condition.
        session: A session with Delta; None: the active one.

    Raises:
        ConfigError: There is no session.
    """
    spark = _session(session)
    frame = spark.read.format("delta").option("versionAsOf", pin.version).load(_address(table))
    if pin.request.where is not None:
        schema = schema_at(place(table), pin.version)
        found = condition(pin.request.where, Scope({"": schema}, f"{table}: where"))
        frame = frame.where(found.sql("spark"))
    return frame.select(*(f"`{name}`" for name in pin.schema.names))


def spark_changes(table: str, request: Changes, session: Any = None) -> Any:
    """A frame of changes; as :func:`spark_rows`.

    Raises:
        ConfigError: There is no session, or the range's ends are times.
    """
    spark = _session(session)
    if request.from_version is None or request.to_version is None:
        raise ConfigError(
            f"{table}: Spark is asked for changes by version",
            hint="give from_version and to_version, or read them with to_arrow()",
        )
    reader = spark.read.format("delta").option("readChangeFeed", "true")
    reader = reader.option("startingVersion", request.from_version)
    frame = reader.option("endingVersion", request.to_version).load(_address(table))
    left_out = ["delete"] if request.ignore_deletes else []
    if request.ignore_changes:
        left_out = ["delete", "update_preimage", "update_postimage"]
    return frame.where(~frame["_change_type"].isin(left_out)) if left_out else frame


def _session(given: Any) -> Any:
    if given is not None:
        return given
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError(
            "pyspark is not installed", hint="pip install 'raylake[spark]'"
        ) from error
    found = SparkSession.getActiveSession()
    if found is None:
        raise ConfigError(
            "no Spark session is active in this process",
            hint="start one with Delta (delta-spark's configure_spark_with_delta_pip) and give it "
            "as to_spark(session)",
        )
    return found


def _address(table: str) -> str:
    """The address as Spark's file systems have it."""
    return f"s3a://{table.removeprefix('s3://')}" if table.startswith("s3://") else table
