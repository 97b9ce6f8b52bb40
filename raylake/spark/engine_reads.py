"""Reading with Spark: rows of a version, and the change feed."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from raylake.spark.engine_open import load, looked_at
from raylake.spark.engine_rows import Scratch
from raylake.storage.place import Place
from raylake.tables.expressions import quoted
from raylake.tables.feeds import FEED_FIELDS, feed_schema, kept, require_feed, versions_of
from raylake.tables.likeness import SPARK
from raylake.tables.reading import wanted_of
from raylake.tables.requests import Changes, Read
from raylake.tables.versions import Versions


def read(
    root: Place, session: SparkSession, scratch: Scratch, request: Read
) -> pa.RecordBatchReader:
    """See :meth:`raylake.tables.port.TableEngine.read`."""
    versions = Versions(root)
    version = versions.resolve(request.version, request.at)
    found = looked_at(root, version)
    if version < versions.latest:
        gone = set(found.rows_by_file()) - set(looked_at(root).rows_by_file())
        versions.require_files(gone, version)
    wanted, where = wanted_of(root, found.schema, version, request)
    frame = load(session, root, versionAsOf=str(version))
    if where is not None:
        frame = frame.where(where.sql(SPARK))
    columns = [quoted(name, dialect=SPARK) for name in wanted.names]
    return scratch.taken(frame.select(*columns), wanted)


def changes(
    root: Place, session: SparkSession, scratch: Scratch, request: Changes
) -> pa.RecordBatchReader:
    """See :meth:`raylake.tables.port.TableEngine.changes`."""
    versions = Versions(root)
    first, last = versions_of(root, versions, request)
    schema = feed_schema(looked_at(root, min(last, versions.latest)).schema)
    if first > last:
        return pa.RecordBatchReader.from_batches(schema, [])
    before = looked_at(root, first).configuration
    require_feed(versions, (first, last), before, lambda: set(looked_at(root).rows_by_file()))
    frame = load(
        session,
        root,
        readChangeFeed="true",
        startingVersion=str(first),
        endingVersion=str(last),
    )
    columns = [quoted(name, dialect=SPARK) for name in schema.names]
    found = scratch.taken(frame.select(*columns), schema)
    return pa.RecordBatchReader.from_batches(schema, kept(_timed(found, versions), request))


def _timed(found: pa.RecordBatchReader, versions: Versions) -> Iterator[pa.RecordBatch]:
    """The feed with the time of each version that its commit tells.

    Spark takes that of the log's file, which a copy of the table changes.
    """
    when = FEED_FIELDS[2]
    at = found.schema.get_field_index(when.name)
    made: dict[int, int] = {}
    for batch in found:
        for version in set(batch.column("_commit_version").to_pylist()) - made.keys():
            made[version] = versions.made_ms(version) * 1000
        stamps = [made[version] for version in batch.column("_commit_version").to_pylist()]
        yield batch.set_column(at, when, pa.array(stamps, pa.int64()).cast(when.type))
