"""Reading with delta-rs: rows of a version, and the change feed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.arrow_reads import arrow_reader
from raylake.tables.delta_rs_open import opened
from raylake.tables.errors import BadExpression
from raylake.tables.feeds import FEED_FIELDS, feed_schema, kept, require_feed, versions_of
from raylake.tables.reading import wanted_of
from raylake.tables.requests import Changes, Read
from raylake.tables.rows import without_views
from raylake.tables.versions import Versions

_TOO_FAR: Final = "to Nanosecond"
_KINDS: Final = {field.name: field.type for field in FEED_FIELDS}


def read(root: Place, request: Read) -> pa.RecordBatchReader:
    """See :meth:`raylake.tables.port.TableEngine.read`.

    Raises:
        BadExpression: Beside what the port says: a time that delta-rs cannot compare.
    """
    versions = Versions(root)
    version = versions.resolve(request.version, request.at)
    handle = opened(root, version)
    if version < versions.latest:
        versions.require_files(files(handle) - files(opened(root)), version)
    wanted, condition = wanted_of(root, arrow_schema(handle.schema()), version, request)
    if condition is None:
        whole = arrow_reader(root, handle, wanted)
        if whole is not None:
            return whole
    where = None if condition is None else condition.sql()
    try:
        found = pa.RecordBatchReader.from_stream(handle.scan(columns=wanted.names, predicate=where))
    except DeltaError as error:
        if where is None or _TOO_FAR not in str(error):
            raise
        raise BadExpression(
            f"{root}: read: a time in the condition lies before 1677 or after 2262, where delta-rs "
            "cannot compare it with a column",
            hint="read without the condition and filter the rows, or use engine: spark",
        ) from error
    return pa.RecordBatchReader.from_batches(wanted, (batch.cast(wanted) for batch in found))


def changes(root: Place, request: Changes) -> pa.RecordBatchReader:
    """See :meth:`raylake.tables.port.TableEngine.changes`."""
    versions = Versions(root)
    first, last = versions_of(root, versions, request)
    handle = opened(root, last)
    if first > last:
        return pa.RecordBatchReader.from_batches(feed_schema(arrow_schema(handle.schema())), [])
    before = opened(root, first).metadata().configuration
    require_feed(versions, (first, last), before, lambda: files(opened(root)))
    found = pa.RecordBatchReader.from_stream(
        handle.load_cdf(starting_version=first, ending_version=last)
    )
    schema = _change_schema(found.schema)
    return pa.RecordBatchReader.from_batches(schema, kept(_changed(found, schema), request))


def files(handle: DeltaTable) -> set[str]:
    """The live files of a handle's version, as the log names them."""
    return set(rows_by_file(handle))


def rows_by_file(handle: DeltaTable) -> dict[str, int]:
    """Rows of each live file; 0 where the log does not tell."""
    adds = pa.table(handle.get_add_actions())
    paths, counts = (adds.column(name).to_pylist() for name in ("path", "num_records"))
    return {path: count or 0 for path, count in zip(paths, counts, strict=True)}


def _change_schema(found: pa.Schema) -> pa.Schema:
    fields = [field.with_type(_KINDS.get(field.name, field.type)) for field in without_views(found)]
    return pa.schema(fields)


def _changed(found: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in found:
        columns = [_as(batch.column(field.name), field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) and kind.tz is not None and column.type.tz is None:
        # The feed's times are UTC and do not say so.
        return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
    return column.cast(kind)
