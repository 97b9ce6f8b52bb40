"""Why Spark does not run, or no longer runs, an operation."""

from __future__ import annotations

from raylake.errors import ConfigError, Refused, Retryable
from raylake.tables.errors import OutcomeUnread, TableError


class SparkUnavailable(TableError, Refused):
    """Spark cannot run here, however often it is tried; no operation was begun."""

    code = "spark_unavailable"


class SparkNotInstalled(SparkUnavailable):
    """The Python packages of Spark are not there."""

    code = "spark_not_installed"


class JavaMissing(SparkUnavailable, ConfigError):
    """There is no Java 17."""

    code = "java_missing"


class JarsMissing(SparkUnavailable):
    """The jars of Delta for Spark are not there and cannot be fetched."""

    code = "jars_missing"


class TooFewResources(SparkUnavailable):
    """The cluster has not, or has not free, what the executors ask for."""

    code = "too_few_resources"


class SparkNotReady(TableError, Retryable):
    """The session did not come up, or is on its way out; no operation was begun."""

    code = "spark_not_ready"


class OperationCancelled(TableError, Retryable):
    """The operation was cancelled for a newer owner of its table, which is as it was."""

    code = "operation_cancelled"


class SparkLost(OutcomeUnread):
    """The session was lost in the middle: the table's log tells whether the operation landed."""

    code = "spark_lost"
