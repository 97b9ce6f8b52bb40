"""A table as Spark's operations find it, read in its log whatever features it uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from deltalake import Schema
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from raylake.delta.features import ALLOWED_FEATURES
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.schema import arrow_schema
from raylake.errors import DependencyUnreachable, NotOurTable, UnsupportedTable
from raylake.spark.settings import ANY_KEYS, SCHEME
from raylake.storage.objects import StorePath
from raylake.storage.place import Place
from raylake.tables.errors import BadExpression, FeatureUnsupported
from raylake.tables.expressions import Expression, quoted
from raylake.tables.likeness import SPARK
from raylake.tables.subject import Subject
from raylake.tables.versions import missing

ENGINE: Final = "spark"
_IN_S3: Final = re.compile(r"^s3[an]?://")
_OF_KEYS: Final = re.compile(r"^s3(a|-\d+)://")
FEATURES: Final = ALLOWED_FEATURES | {
    "allowColumnDefaults",
    "clustering",
    "domainMetadata",
    "icebergCompatV1",
    "icebergCompatV2",
    "identityColumns",
    "inCommitTimestamp",
    "rowTracking",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
}
"""What Delta 3.3 for Spark reads and writes: an allow-list."""


@dataclass(frozen=True, slots=True)
class Found:
    """A table at one version.

    Attributes:
        root: Where it is.
        log: What its log says.
        schema: Its schema, as Arrow has Delta's types.
    """

    root: Place
    log: LogSnapshot
    schema: pa.Schema

    @property
    def configuration(self) -> Mapping[str, str]:
        """The table's properties."""
        return self.log.metadata.configuration

    def rows_by_file(self) -> dict[str, int]:
        """Rows of each live file, without those that a deletion vector takes; 0: not told."""
        columns = ("path", "num_records", "deleted_records")
        paths, rows, gone = (self.log.files.column(name).to_pylist() for name in columns)
        counted = zip(paths, rows, gone, strict=True)
        return {path: max(0, (count or 0) - (less or 0)) for path, count, less in counted}

    def row_count(self) -> int:
        """Rows of the table; less where a file's statistics do not tell."""
        return sum(self.rows_by_file().values())


def looked_at(root: Place, version: int | None = None) -> Found:
    """A table at a version, the newest by default, when Spark can read it.

    Raises:
        TableMissing: There is no table.
        FeatureUnsupported: Spark does not read it; names the feature.
        LogDamaged: The log is torn.
        DependencyUnreachable: The log cannot be read now.
    """
    try:
        log = LogReader(str(root)).snapshot(version)
    except NotOurTable as error:
        raise missing(str(root)) from error
    except UnsupportedTable as error:
        raise FeatureUnsupported(error.message, hint=error.hint, feature="v2Checkpoint") from error
    except OSError as error:
        raise DependencyUnreachable(f"{root}: the log cannot be read: {error}") from error
    _refuse_unknown(root, log.protocol.reader_features)
    try:
        schema = arrow_schema(Schema.from_json(log.metadata.schema_json))
    except (ValueError, TypeError) as error:
        raise FeatureUnsupported(
            f"{root}: the table has a column of a type that RayLake does not know: {error}",
            hint="read it with Spark itself",
            feature="column types",
        ) from error
    return Found(root, log, schema)


def refuse_unwritable(found: Found) -> None:
    """Refuse a table that Spark does not write.

    Raises:
        FeatureUnsupported: Names the feature.
    """
    _refuse_unknown(found.root, found.log.protocol.writer_features)


def subject_of(found: Found, session: SparkSession) -> Subject:
    """The table as checks see it; expressions get the types that Spark plans."""
    return Subject(
        found.root,
        found.schema,
        dict(found.configuration),
        found.log.metadata.partition_columns,
        _kinds(found.root, session),
    )


def load(session: SparkSession, root: Place, **options: str) -> DataFrame:
    """The rows of a table, not read yet."""
    return session.read.format("delta").options(**options).load(address(root, session))


def address(root: Place, session: SparkSession) -> str:
    """Where a place is, as a session calls it."""
    if isinstance(root, StorePath):
        return spark_address(str(root), session)
    return str(root.absolute())


def spark_address(text: str, session: SparkSession) -> str:
    """An address as a session calls it: what lies in S3, by the keys that the session has."""
    scheme = session.conf.get(SCHEME, "s3a")
    return _IN_S3.sub(f"{scheme}://", text, count=1)


def plain_address(text: str) -> str:
    """An address that Spark was given by :func:`spark_address`, as RayLake calls it."""
    return _OF_KEYS.sub("s3://", text, count=1)


def first_line(error: BaseException) -> str:
    """What an error of Spark's says, without the plan and the stack below it."""
    java: Any = getattr(error, "java_exception", None)
    said = str(error) if java is None else str(java.toString())
    return ANY_KEYS.sub("s3://", said.strip().split("\n", maxsplit=1)[0])


def _kinds(root: Place, session: SparkSession) -> Callable[[Expression, str], pa.DataType]:
    def kind_of(expression: Expression, where: str) -> pa.DataType:
        text = f"{expression.sql(SPARK)} AS {quoted('found', dialect=SPARK)}"
        try:
            planned = load(session, root).alias("target").selectExpr(text).schema
        except PySparkException as error:
            raise BadExpression(
                f"{where}: the value cannot be computed: {first_line(error)}"
            ) from error
        field = json.loads(planned.json())["fields"][0]
        if field["type"] == "void":
            return pa.null()
        return arrow_schema(Schema.from_json(json.dumps({"type": "struct", "fields": [field]})))[
            0
        ].type

    return kind_of


def _refuse_unknown(root: Place, features: Iterable[str]) -> None:
    unknown = sorted(set(features) - FEATURES)
    if unknown:
        raise FeatureUnsupported(
            f"{root}: the table uses {unknown[0]}, which Delta 3.3 for Spark does not know",
            hint="no engine of RayLake's works on this table: take the feature off it",
            feature=unknown[0],
        )
