"""Reading with delta-rs: rows of a version, the change feed, history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from raylake.config.findings import did_you_mean
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_open import opened
from raylake.tables.errors import BadRequest, ChangesUnavailable, UnknownColumn, VersionAndTime
from raylake.tables.expressions import Scope, condition
from raylake.tables.requests import Changes, Read
from raylake.tables.results import TableVersion
from raylake.tables.rows import without_views
from raylake.tables.times import instant_ms, utc
from raylake.tables.versions import Versions

CHANGE_FEED: Final = "delta.enableChangeDataFeed"
_LEFT_OUT: Final = {
    "deletes": ("delete",),
    "changes": ("delete", "update_preimage", "update_postimage"),
}
_KINDS: Final = {
    "_commit_version": pa.int64(),
    "_commit_timestamp": pa.timestamp("us", tz="UTC"),
}


def read(root: Place, request: Read) -> pa.RecordBatchReader:
    """See :meth:`raylake.tables.port.TableEngine.read`."""
    versions = Versions(root)
    version = versions.resolve(request.version, request.at)
    handle = opened(root, version)
    if version < versions.latest:
        versions.require_files(files(handle) - files(opened(root)), version)
    schema = arrow_schema(handle.schema())
    columns = list(request.columns) if request.columns is not None else schema.names
    for name in columns:
        if name not in schema.names:
            raise UnknownColumn(
                f"{root}: version {version} has no column {name!r}",
                hint=did_you_mean(name, schema.names),
                column=name,
            )
    where = None
    if request.where is not None:
        where = condition(request.where, Scope({"": schema}, f"{root}: where")).sql()
    found = pa.RecordBatchReader.from_stream(handle.scan(columns=columns, predicate=where))
    wanted = pa.schema([schema.field(name) for name in columns])
    return pa.RecordBatchReader.from_batches(wanted, (batch.cast(wanted) for batch in found))


def changes(root: Place, request: Changes) -> pa.RecordBatchReader:
    """See :meth:`raylake.tables.port.TableEngine.changes`."""
    versions = Versions(root)
    first, last = _range(root, versions, request)
    handle = opened(root, last)
    if first > last:
        return _nothing(handle)
    _require_feed(root, versions, first, last)
    found = pa.RecordBatchReader.from_stream(
        handle.load_cdf(starting_version=first, ending_version=last)
    )
    schema = _change_schema(found.schema)
    kinds = _LEFT_OUT["changes"] if request.ignore_changes else ()
    kinds = kinds or (_LEFT_OUT["deletes"] if request.ignore_deletes else ())
    return pa.RecordBatchReader.from_batches(schema, _changed(found, schema, kinds))


def history(root: Place, limit: int | None) -> list[TableVersion]:
    """See :meth:`raylake.tables.port.TableEngine.history`.

    Raises:
        BadRequest: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise BadRequest(f"{root}: history: the limit {limit} is below 1")
    versions = Versions(root)
    wanted = versions.with_commits()[::-1][:limit]
    return [_line(one, versions) for one in wanted]


def files(handle: DeltaTable) -> set[str]:
    """The live files of a handle's version, as the log names them."""
    return set(rows_by_file(handle))


def rows_by_file(handle: DeltaTable) -> dict[str, int]:
    """Rows of each live file; 0 where the log does not tell."""
    adds = pa.table(handle.get_add_actions())
    paths, counts = (adds.column(name).to_pylist() for name in ("path", "num_records"))
    return {path: count or 0 for path, count in zip(paths, counts, strict=True)}


def _range(root: Place, versions: Versions, request: Changes) -> tuple[int, int]:
    """The first and the last version, both included; the first may be beyond the last.

    Raises:
        VersionAndTime: One end is given as both.
        BadRequest: No start is given, or the range ends before it starts.
    """
    for end, version, at in (
        ("from", request.from_version, request.from_time),
        ("to", request.to_version, request.to_time),
    ):
        if version is not None and at is not None:
            raise VersionAndTime(
                f"{root}: changes: both {end}_version and {end}_time are given",
                hint="give one of them",
            )
    if request.from_time is not None:
        first = versions.made_from(instant_ms(request.from_time, f"{root}: from_time"))
    elif request.from_version is not None:
        first = versions.known(request.from_version)
    else:
        raise BadRequest(
            f"{root}: changes: no start is given", hint="give from_version or from_time"
        )
    if request.to_time is not None:
        last = versions.made_by(instant_ms(request.to_time, f"{root}: to_time"))
    else:
        last = versions.resolve(request.to_version, None)
    if first > last and request.from_time is None and request.to_time is None:
        raise BadRequest(f"{root}: changes: version {first} comes after {last}")
    return first, last


def _require_feed(root: Place, versions: Versions, first: int, last: int) -> None:
    """Refuse a range in which the table recorded nothing, or of which files are gone.

    Raises:
        ChangesUnavailable: Naming the version.
        VersionGone: Vacuum or the log's clean-up took a part.
    """
    off = -1
    recording = _records(opened(root, first).metadata().configuration)
    needed: list[tuple[int, str]] = []
    for version, actions in enumerate(versions.commits(first, last), start=first):
        for action in actions:
            if action.get("metaData"):
                recording = _records(action["metaData"].get("configuration") or {})
        needed += [(version, path) for path in _sources(actions)]
        off = version if not recording else off
    if off >= 0:
        raise ChangesUnavailable(
            f"{root}: version {off} recorded no changes: {CHANGE_FEED} was off",
            hint=f"read from version {off + 1} on; the property counts from when it is set",
            version=off,
        )
    live = files(opened(root))
    for version in sorted({version for version, _ in needed}):
        versions.require_files({p for v, p in needed if v == version and p not in live}, version)


def _records(configuration: dict[str, Any]) -> bool:
    return str(configuration.get(CHANGE_FEED, "")).lower() == "true"


def _sources(actions: Iterable[dict[str, Any]]) -> list[str]:
    """The files that a commit's changes are read from."""
    recorded = [a["cdc"]["path"] for a in actions if a.get("cdc")]
    if recorded:
        return recorded
    found = (a.get("add") or a.get("remove") or {} for a in actions)
    return [str(one["path"]) for one in found if one.get("dataChange")]


def _change_schema(found: pa.Schema) -> pa.Schema:
    fields = [field.with_type(_KINDS.get(field.name, field.type)) for field in without_views(found)]
    return pa.schema(fields)


def _changed(
    found: Iterable[pa.RecordBatch], schema: pa.Schema, left_out: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    for batch in found:
        columns = [_as(batch.column(field.name), field.type) for field in schema]
        whole = pa.RecordBatch.from_arrays(columns, schema=schema)
        if left_out:
            gone = pc.is_in(whole.column("_change_type"), value_set=pa.array(left_out))
            whole = whole.filter(pc.invert(gone))
        yield whole


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) and kind.tz is not None and column.type.tz is None:
        # The feed's times are UTC and do not say so.
        return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
    return column.cast(kind)


def _nothing(handle: DeltaTable) -> pa.RecordBatchReader:
    own = [
        ("_change_type", pa.string()),
        ("_commit_version", _KINDS["_commit_version"]),
        ("_commit_timestamp", _KINDS["_commit_timestamp"]),
    ]
    schema = pa.schema([*arrow_schema(handle.schema()), *(pa.field(*one) for one in own)])
    return pa.RecordBatchReader.from_batches(schema, [])


def _line(version: int, versions: Versions) -> TableVersion:
    commit = versions.commit_info(version)
    return TableVersion(
        version=version,
        at=utc(versions.made_ms(version)),
        operation=str(commit.get("operation", "")),
        engine=str(commit.get("engineInfo", "")),
        parameters=dict(commit.get("operationParameters") or {}),
        metrics=dict(commit.get("operationMetrics") or {}),
    )
