"""Errors of Spark in the words of the port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from deltalake.exceptions import CommitFailedError
from pyspark.errors import PySparkException

from raylake.errors import RayLakeError
from raylake.spark.engine_open import first_line, looked_at
from raylake.storage.place import Place
from raylake.tables.errors import (
    FeatureUnsupported,
    OutcomeUnread,
    SchemaMismatch,
    ValuesRefused,
    WriteConflict,
    WriteFailed,
)
from raylake.tables.guards import rules
from raylake.tables.space import ran_out

_CONFLICTS: Final = ("Concurrent", "MetadataChanged", "ProtocolChanged")
_BROKEN_RULES: Final = (
    "DELTA_VIOLATE_CONSTRAINT",
    "DELTA_NOT_NULL_CONSTRAINT_VIOLATED",
    "DELTA_NEW_CHECK_CONSTRAINT_VIOLATION",
    "DELTA_NEW_NOT_NULL_VIOLATION",
    "DELTA_REPLACE_WHERE_MISMATCH",
    "NOT_NULL_ASSERT_VIOLATION",
)
_OTHER_SHAPE: Final = ("DELTA_FAILED_TO_MERGE_FIELDS", "DELTA_SCHEMA_MISMATCH", "_LEGACY_ERROR")
_BY_HAND: Final = ("DELTA_FEATURES_REQUIRE_MANUAL_ENABLEMENT",)
_DEEPEST: Final = 20


def is_conflict(error: Exception | None) -> bool:
    """Whether another writer came first."""
    return isinstance(error, CommitFailedError) or any(
        name.startswith("io.delta.exceptions.") and name.rpartition(".")[2].startswith(_CONFLICTS)
        for name, _ in _causes(error)
    )


def translated(error: Exception, root: Place, what: str) -> RayLakeError:
    """What an error of Spark means; the log does not have the commit.

    Args:
        error: Whatever ended the write.
        root: The table.
        what: The operation.
    """
    if isinstance(error, RayLakeError):
        return error
    if (full := ran_out(error, root, f"{root}: {what}")) is not None:
        return full
    text = f"{root}: {what}: "
    if is_conflict(error):
        return WriteConflict(
            f"{text}other writers came first each time: {first_line(error)}",
            hint="nothing was changed; try again when the table is quieter",
        )
    said = [f"{name} {message}" for name, message in _causes(error)]
    if _says(said, _BROKEN_RULES):
        # Its text goes on with the rows themselves: they do not belong into a log.
        return ValuesRefused(
            f"{text}rows break {_rules(root)}",
            hint="nothing was changed; look for such rows in the source",
        )
    if _says(said, _BY_HAND):
        return FeatureUnsupported(
            f"{text}a column needs a feature that the table does not have: {_reason(said)}",
            hint="add the column first, by itself (AddColumns; engine: delta-rs)",
            feature="table features",
        )
    if _says(said, _OTHER_SHAPE):
        return SchemaMismatch(f"{text}{first_line(error)}", hint="nothing was changed")
    if not said:
        return OutcomeUnread(
            f"{root}: {what} failed: {first_line(error)}; the log does not have it now, and Spark "
            "or the store may still apply what was asked",
            hint="look at the table's history before the operation is repeated",
        )
    return WriteFailed(
        f"{root}: {what} failed: {first_line(error)}",
        hint="nothing was changed; see the engine's text",
    )


def _reason(said: list[str]) -> str:
    """The first line that names it, without the name of Java's class."""
    found = next(one for one in said if any(word in one for word in _BY_HAND))
    return found.partition(" ")[2].strip().split("\n", maxsplit=1)[0]


def _says(said: list[str], words: tuple[str, ...]) -> bool:
    return any(word in one for one in said for word in words)


def _rules(root: Place) -> str:
    found = looked_at(root)
    return rules(found.configuration, [f.name for f in found.schema if not f.nullable])


def _causes(error: Exception | None) -> Iterator[tuple[str, str]]:
    """Class and message of the Java error behind one of Python's, and of its causes.

    Nothing where the JVM did not answer: then nobody knows what became of the work.
    """
    origin: Any = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    if origin is None and isinstance(error, PySparkException):
        # delta-spark's own classes of conflicts are named as those of Java, and hold none of them.
        package = "io." if type(error).__module__ == "delta.exceptions" else ""
        yield f"{package}{type(error).__module__}.{type(error).__name__}", str(error)
    for _ in range(_DEEPEST):
        if origin is None:
            return
        yield str(origin.getClass().getName()), str(origin.getMessage())
        origin = origin.getCause()
