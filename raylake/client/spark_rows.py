"""Rows of a table as a Spark frame, in a session that the caller has."""

from __future__ import annotations

from typing import Any, Final

from raylake.errors import ConfigError
from raylake.storage.place import place
from raylake.tables.expressions import Scope, condition
from raylake.tables.pins import Pin, schema_at
from raylake.tables.requests import Changes

_NO_DELTA: Final = "Failed to find the data source: delta"


def spark_rows(table: str, pin: Pin, session: Any = None) -> Any:
    """A frame of one version.

    Args:
        table: The table's address.
        pin: The version, columns and condition.
        session: A session with Delta; None: the active one, or the process's first one.

    Raises:
        ConfigError: There is no session, or it has no Delta.
    """
    spark = _session(session)
    frame = _loaded(spark.read.format("delta").option("versionAsOf", pin.version), table)
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
    frame = _loaded(reader.option("endingVersion", request.to_version), table)
    left_out = ["delete"] if request.ignore_deletes else []
    if request.ignore_changes:
        left_out = ["delete", "update_preimage", "update_postimage"]
    return frame.where(~frame["_change_type"].isin(left_out)) if left_out else frame


def _session(given: Any) -> Any:
    if given is not None:
        return given
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError(
            "pyspark is not installed", hint="pip install 'raylake[spark]'"
        ) from error
    try:
        # That of this thread, or else the one that the process began with.
        return SparkSession.active()
    except PySparkException:
        raise ConfigError(
            "no Spark session is there in this process, and none is started for a reading",
            hint="start one with Delta for Spark, and to_spark() finds it: "
            "`from delta import configure_spark_with_delta_pip`; a session that is not the active "
            "one is given as to_spark(session). Without Spark: to_arrow(), to_polars(), to_ray()",
        ) from None


def _loaded(reader: Any, table: str) -> Any:
    """The frame of a reader that is told everything.

    Raises:
        ConfigError: The session knows no Delta.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        return reader.load(_address(table))
    except (PySparkException, Py4JError) as error:
        if _NO_DELTA not in str(error):
            raise
        raise ConfigError(
            f"{table}: this Spark session has no Delta: {_NO_DELTA}",
            hint="start it with delta-spark's configure_spark_with_delta_pip, or with the jar "
            "io.delta:delta-spark and its two settings",
        ) from None


def _address(table: str) -> str:
    """The address as Spark's file systems have it."""
    return f"s3a://{table.removeprefix('s3://')}" if table.startswith("s3://") else table
