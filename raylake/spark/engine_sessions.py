"""The session of one operation, and what is set in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from pyspark.sql import SparkSession

from raylake.spark.operations import job_group
from raylake.storage.place import Place
from raylake.tables.landing import Signature

Sessions = Callable[[str], SparkSession]
"""Gives a session of its own (``newSession()``) for one operation on a table, by the table's
address; it holds the table's credentials and is not used again."""

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # As delta-rs reckons: what does not fit is an error, never a null.
        "spark.sql.ansi.enabled": "true",
        "spark.sql.storeAssignmentPolicy": "ANSI",
        # delta-rs writes constraints on columns with capitals so: "netAmount" >= 0.
        "spark.sql.ansi.doubleQuotedIdentifiers": "true",
        "spark.sql.session.timeZone": "UTC",
        # Every reader of Parquet knows these; days before 1582 stay the days they are.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
        # A log's snapshot is made by as many tasks, and again after each commit.
        "spark.databricks.delta.snapshotPartitions": "2",
        # Each is asked for where it is meant.
        "spark.databricks.delta.schema.autoMerge.enabled": "false",
        "spark.sql.sources.partitionOverwriteMode": "static",
    }
)
"""What makes an operation mean the same on Spark as elsewhere."""


def one_session(spark: SparkSession) -> Sessions:
    """Sessions for all tables from one that runs, as in tests and notebooks."""
    return lambda _table: spark.newSession()


@contextmanager
def prepared(sessions: Sessions, root: Place) -> Iterator[SparkSession]:
    """A session for one operation; nothing that an earlier one set is set in it.

    It is this thread's active one meanwhile: by the active one's settings expressions are parsed.
    """
    table = str(root)
    session = sessions(table)
    for name, value in SETTINGS.items():
        session.conf.set(name, value)
    session.sparkContext.setJobGroup(job_group(table), f"RayLake on {table}", True)
    java: Any = session
    registry = java._jvm.org.apache.spark.sql.SparkSession  # noqa: SLF001
    before = registry.getActiveSession()
    registry.setActiveSession(java._jsparkSession)  # noqa: SLF001
    try:
        yield session
    finally:
        if before.isDefined():
            registry.setActiveSession(before.get())
        else:
            registry.clearActiveSession()


def name_commit(session: SparkSession, signature: Signature) -> None:
    """Have the session's commit say whose it is, and carry the slot's number.

    Args:
        session: The operation's own: settings that stayed would skip the next operation in silence.
        signature: What the commit says. What it carries beside the rows Spark cannot, so nothing
            of it is set: a commit of RayLake's own has all of it then.
    """
    if signature.alongside is not None:
        return
    mine, fence = json.dumps(signature.metadata), signature.fence
    session.conf.set("spark.databricks.delta.commitInfo.userMetadata", mine)
    if fence is not None:
        session.conf.set("spark.databricks.delta.write.txnAppId", fence.app_id)
        session.conf.set("spark.databricks.delta.write.txnVersion", str(fence.number))
