"""The change feed: which versions a request means, and whether they can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake.storage.place import Place
from raylake.tables.errors import BadRequest, ChangesUnavailable, VersionAndTime
from raylake.tables.requests import Changes
from raylake.tables.times import instant_ms
from raylake.tables.versions import Versions

CHANGE_FEED: Final = "delta.enableChangeDataFeed"
FEED_FIELDS: Final = (
    pa.field("_change_type", pa.string()),
    pa.field("_commit_version", pa.int64()),
    pa.field("_commit_timestamp", pa.timestamp("us", tz="UTC")),
)
"""What each row has beside the table's columns."""


def versions_of(root: Place, versions: Versions, request: Changes) -> tuple[int, int]:
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


def require_feed(
    versions: Versions,
    wanted: tuple[int, int],
    before: Mapping[str, Any],
    live: Callable[[], set[str]],
) -> None:
    """Refuse a range in which the table recorded nothing, or of which files are gone.

    Args:
        versions: The table's versions.
        wanted: The first and the last one.
        before: The properties at the first one.
        live: The files of the newest version, as the log names them.

    Raises:
        ChangesUnavailable: Naming the version.
        VersionGone: Vacuum or the log's clean-up took a part.
    """
    off = -1
    recording = _records(before)
    needed: list[tuple[int, str]] = []
    for version, actions in enumerate(versions.commits(*wanted), start=wanted[0]):
        for action in actions:
            if action.get("metaData"):
                recording = _records(action["metaData"].get("configuration") or {})
        needed += [(version, path) for path in _sources(actions)]
        off = version if not recording else off
    if off >= 0:
        raise ChangesUnavailable(
            f"{versions.root}: version {off} recorded no changes: {CHANGE_FEED} was off",
            hint=f"read from version {off + 1} on; the property counts from when it is set",
            version=off,
        )
    there = live()
    for version in sorted({version for version, _ in needed}):
        versions.require_files({p for v, p in needed if v == version and p not in there}, version)


def kept(batches: Iterable[pa.RecordBatch], request: Changes) -> Iterator[pa.RecordBatch]:
    """The rows of the kinds that a request asks for."""
    left_out: tuple[str, ...] = ("delete",) if request.ignore_deletes else ()
    if request.ignore_changes:
        left_out = ("delete", "update_preimage", "update_postimage")
    for batch in batches:
        if not left_out:
            yield batch
            continue
        gone = pc.is_in(batch.column("_change_type"), value_set=pa.array(left_out))
        yield batch.filter(pc.invert(gone))


def feed_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the feed of a table."""
    return pa.schema([*schema, *FEED_FIELDS])


def _records(configuration: Mapping[str, Any]) -> bool:
    return str(configuration.get(CHANGE_FEED, "")).lower() == "true"


def _sources(actions: Iterable[dict[str, Any]]) -> list[str]:
    """The files that a commit's changes are read from."""
    recorded = [a["cdc"]["path"] for a in actions if a.get("cdc")]
    if recorded:
        return recorded
    found = (a.get("add") or a.get("remove") or {} for a in actions)
    return [str(one["path"]) for one in found if one.get("dataChange")]
