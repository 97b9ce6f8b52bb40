"""What versions of a source brought and took, read from its log and the files that this names.

Of each version after the last processed one: its change feed where the commit has one; else rows
of files that it added came, and rows of files that it removed left. Files that only rewrite
(``dataChange=false``) are passed over. A row that a version both took and brought, as it is where
files are written anew around others that changed, did neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.findings import did_you_mean
from raylake.delta import log_files
from raylake.delta.log_reader import LogReader
from raylake.errors import LogDamaged
from raylake.layers import source_parts, table_ids
from raylake.layers.derived import NEVER, SOURCE_VERSION, Begun, SourceRows, Span
from raylake.layers.errors import SourceGap, SourceReplaced
from raylake.layers.sandbox import Limits, Sandbox
from raylake.layers.source_files import CHANGE, SourceColumns, SourceFiles
from raylake.layers.source_logs import metadata_at, watermark_of
from raylake.layers.source_parts import NO_LIMIT, Limit, Size
from raylake.storage.place import Place, place
from raylake.tables import delta_rs_reads
from raylake.tables.errors import UnknownColumn, VersionGone
from raylake.tables.requests import Read
from raylake.tables.versions import Versions

IDLE_VERSIONS: Final = 64
"""So many versions without rows are a span of their own: they are not looked at again then."""
_CAME: Final = ("insert", "update_postimage")
_LEFT: Final = ("delete", "update_preimage")


def look_for(
    root: Place,
    source: str,
    after: int,
    *,
    table_id: str | None = None,
    limit: Limit = NO_LIMIT,
    until: int | None = None,
    begun: Begun | None = None,
) -> Span | None:
    """The next versions to process; None when there is nothing new.

    Versions without rows are part of a span, so that progress passes over them; where there are no
    others, only once there are :data:`IDLE_VERSIONS` of them, or what the limit says.

    Args:
        root: The source.
        source: ``layer.name``.
        after: The last version that is processed; :data:`~raylake.layers.derived.NEVER`: none.
        table_id: The source's id when that was; None: not known.
        limit: A span ends before the version with which it would have more, by the log's
            statistics; of one that has more by itself it has a part, or all of it. The whole
            table, which the first step takes, is cut so, too, at an older version where these are
            there and rows were only added, else into parts.
        until: No version after this one; None: up to the newest.
        begun: The version of which a part is processed already, where there is one: it goes on.

    Raises:
        SourceGap: The log no longer has a version that is needed.
        SourceReplaced: Another table lies there, or the source lost versions.
        TableMissing: There is no table.
        LogDamaged: The log is torn.
    """
    versions = Versions(root)
    latest = versions.latest
    if after == latest:
        return None
    found = table_ids.table_id(root)
    if after != NEVER and table_id is not None and found != table_id:
        raise _replaced(root, source, after, latest, "another table lies there")
    if after > latest:
        raise _replaced(root, source, after, latest, "commits were taken away")
    end = latest if until is None else min(until, latest)
    span = Span(source, str(root), found, after, end)
    if begun is not None and begun.version > after:
        if begun.version > latest:
            raise _replaced(root, source, after, latest, f"version {begun.version} was taken away")
        return _cut(root, replace(span, last=begun.version), limit, begun.rows)
    if after == NEVER:
        last = _first_cut(root, versions, limit, end)
        return _cut(root, replace(span, last=last), limit, 0)
    if limit.versions is not None:
        end = min(end, after + max(1, limit.versions))
    one, size = _last(root, source, versions, (after, end), limit)
    if one is None or limit.holds(size):
        return None if one is None else replace(span, last=one)
    return _cut(root, replace(span, last=one), limit, 0)


def read(span: Span, columns: Sequence[str] | None = None) -> SourceRows:
    """The rows of a span, in memory.

    Args:
        span: The versions.
        columns: The columns that are needed, of the source at ``span.last``; None: all.

    Raises:
        SourceGap: A version or a file of one is gone; names the versions.
        UnknownColumn: The source has no such column.
        LogDamaged: A file does not hold what it should.
    """
    root = place(span.address)
    try:
        every = SourceColumns.of(metadata_at(root, span.last))
    except LogDamaged as error:
        raise _gap_or(error, root, span) from error
    names = list(every.logical.names) if columns is None else list(columns)
    for name in names:
        if name not in every.logical.names:
            raise UnknownColumn(
                f"{span.source}: version {span.last} has no column {name!r}",
                hint=did_you_mean(name, every.logical.names),
                column=name,
            )
    # Rows of no column could not be counted.
    chosen = every.chosen(names or every.logical.names[:1])
    try:
        came, left = _rows(root, span, chosen)
    except (FileNotFoundError, VersionGone) as error:
        raise _gap(root, span, str(error)) from error
    except pa.ArrowException as error:
        raise LogDamaged(
            f"{span.source} ({span.address}): a file of versions {span.after + 1} to {span.last} "
            f"cannot be read: {error}",
            hint="`raylake verify --level data` says more",
            path=span.address,
        ) from error
    wanted = [*names, SOURCE_VERSION]
    # Rows before a watermark may still be missing while a version is not whole.
    watermark_ms = watermark_of(root, span.last) if span.whole else None
    return SourceRows(span, came.select(wanted), left.select(wanted), watermark_ms)


@dataclass(frozen=True, slots=True)
class _Commit:
    """What a commit did to rows.

    Attributes:
        added: Files whose rows came.
        removed: Files whose rows left.
        feed: Files of its change feed; where there are any, they say it all.
    """

    added: Sequence[dict[str, Any]]
    removed: Sequence[dict[str, Any]]
    feed: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, actions: Iterable[dict[str, Any]]) -> _Commit:
        by: dict[str, list[dict[str, Any]]] = {"add": [], "remove": [], "cdc": []}
        for action in actions:
            for kind, found in by.items():
                one = action.get(kind)
                if one and (kind == "cdc" or one.get("dataChange", True)):
                    found.append(one)
        return cls(by["add"], by["remove"], by["cdc"])

    @property
    def has_rows(self) -> bool:
        return bool(self.added or self.removed or self.feed)

    @property
    def size(self) -> Size:
        """How much it brought, by the log; without a feed rows that it copied count too."""
        added = sum((source_parts.size_of(one) for one in self.added), Size())
        if not self.feed:
            return added
        nbytes = sum(int(one.get("size") or 0) for one in self.feed)
        # A file of the feed says no rows; it has the table's columns, so they are as wide.
        rows = nbytes * added.rows // added.nbytes if added.nbytes else nbytes
        return Size(max(1, rows), nbytes)


def _rows(root: Place, span: Span, columns: SourceColumns) -> tuple[pa.Table, pa.Table]:
    schema = pa.schema([*columns.logical, (SOURCE_VERSION, pa.int64())])
    if span.part is not None:
        files = SourceFiles(root, columns)
        some = [files.some(one, span.last) for one in span.part.slices]
        stamped = [_stamped(one, schema, span.last) for one in some]
        return pa.concat_tables([schema.empty_table(), *stamped]), schema.empty_table()
    if span.after == NEVER:
        request = Read(columns=tuple(columns.logical.names), version=span.last)
        whole = delta_rs_reads.read(root, request).read_all()
        return _stamped(whole, schema, span.last), schema.empty_table()
    files = SourceFiles(root, columns)
    came, left = [schema.empty_table()], [schema.empty_table()]
    for version in range(span.after + 1, span.last + 1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            raise FileNotFoundError(f"the log's file of version {version} is gone")
        brought, took = _of_commit(files, _Commit.of(actions), version)
        if brought is not None and took is not None:
            brought, took = _without_both(brought, took)
        came += [] if brought is None else [_stamped(brought, schema, version)]
        left += [] if took is None else [_stamped(took, schema, version)]
    return pa.concat_tables(came), pa.concat_tables(left)


def _of_commit(
    files: SourceFiles, commit: _Commit, version: int
) -> tuple[pa.Table | None, pa.Table | None]:
    if commit.feed:
        rows = pa.concat_tables([files.changes(one) for one in commit.feed])
        came, left = ([_of_kind(rows, kinds)] for kinds in (_CAME, _LEFT))
    else:
        came = [files.rows(one, version) for one in commit.added]
        left = [files.rows(one, version - 1) for one in commit.removed]
    return _whole(came), _whole(left)


def _of_kind(rows: pa.Table, kinds: Sequence[str]) -> pa.Table:
    chosen = rows.filter(pc.is_in(rows.column(CHANGE), value_set=pa.array(kinds)))
    return chosen.drop_columns([CHANGE])


def _whole(parts: Sequence[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(parts) if any(one.num_rows for one in parts) else None


def _without_both(came: pa.Table, left: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Each side without the rows that the other has too, as often as it has them."""
    with Sandbox(Limits(), "rows that came and left") as box:
        box.give("came", came)
        box.give("gone", left)
        # Comparing whole rows takes five times as long, and mostly no row is in both. The sandbox
        # keeps no order of rows: a hash must not be matched to its row by place.
        marks = [box.rows(f"FROM {one} SELECT hash({one})").column(0) for one in ("came", "gone")]
        shared = pc.unique(marks[0].filter(pc.is_in(marks[0], value_set=marks[1])))
        if not len(shared):
            return came, left
        box.give("shared", pa.table({"mark": shared}))
        return (
            _without(box, "came", "gone").cast(came.schema),
            _without(box, "gone", "came").cast(left.schema),
        )


def _without(box: Sandbox, one: str, other: str) -> pa.Table:
    return box.rows(
        f"(FROM {one} WHERE hash({one}) NOT IN (FROM shared)) UNION ALL "
        f"((FROM {one} WHERE hash({one}) IN (FROM shared)) EXCEPT ALL "
        f"(FROM {other} WHERE hash({other}) IN (FROM shared)))"
    )


def _stamped(rows: pa.Table, schema: pa.Schema, version: int) -> pa.Table:
    stamp = pa.repeat(pa.scalar(version, pa.int64()), rows.num_rows)
    return pa.table([*rows.columns, stamp], schema=schema)


def _last(
    root: Place,
    source: str,
    versions: Versions,
    between: tuple[int, int],
    limit: Limit,
) -> tuple[int | None, Size]:
    """The last version of the span after one, up to another, and how much it brought.

    Of a span that has more than the limit it is the only version with rows. None when nothing is
    new.
    """
    after, end = between
    size, found = Size(), False
    for version in range(after + 1, end + 1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            oldest = versions.with_commits()[0]
            raise _gap_at(str(root), source, (after + 1, max(version, oldest - 1)), oldest)
        commit = _Commit.of(actions)
        if not limit.holds(size + commit.size):
            return (version - 1, size) if found else (version, commit.size)
        size += commit.size
        found = found or commit.has_rows
    enough = end - after >= (limit.idle_versions or IDLE_VERSIONS)
    return (end if found or enough else None), size


def _first_cut(root: Place, versions: Versions, limit: Limit, latest: int) -> int:
    """The version that the first step takes whole, ``latest`` at most."""
    if limit.rows is None or versions.with_commits()[0] != 0:
        return latest
    size, cut = Size(), latest
    for version in range(latest + 1):
        commit = _Commit.of(log_files.read_commit(root, version) or [])
        if commit.removed or commit.feed:
            return latest
        size += commit.size
        if not limit.holds(size) and cut == latest:
            cut = max(0, version - 1)
    if cut < latest and not _is_there(root, versions, cut):
        return latest
    return cut


def _cut(root: Place, span: Span, limit: Limit, begin: int) -> Span:
    """Of a span with one version that has rows what a step takes of them, from one row on."""
    first = span.after == NEVER
    try:
        if first:
            pieces = source_parts.of_table(root, LogReader(str(root)).snapshot(span.last))
        else:
            commit = _Commit.of(log_files.read_commit(root, span.last) or [])
            if commit.removed or commit.feed:
                return _over(root, span, commit.size)
            pieces = source_parts.of_commit(root, commit.added)
        size = sum((one.size for one in pieces), Size())
        if begin == 0 and limit.holds(size):
            return span
        if begin == 0 and not limit.cuts(span.last, first=first):
            return replace(span, over=size.rows, share=1.0) if first else _over(root, span, size)
        return replace(span, part=source_parts.part_of(pieces, begin, limit))
    except LogDamaged as error:
        raise _gap_or(error, root, span) from error
    except FileNotFoundError as error:
        raise _gap(root, span, str(error)) from error


def _over(root: Place, span: Span, size: Size) -> Span:
    """A span that is not cut, though it has more than a step is to take."""
    pieces = source_parts.of_table(root, LogReader(str(root)).snapshot(span.last))
    total = sum((one.size for one in pieces), Size())
    return replace(span, over=size.rows, share=min(1.0, size.rows / max(1, total.rows)))


def _is_there(root: Place, versions: Versions, version: int) -> bool:
    """Whether a version has all of its files."""
    then, now = (
        set(LogReader(str(root)).snapshot(one).files.column("path").to_pylist())
        for one in (version, versions.latest)
    )
    try:
        versions.require_files(then - now, version)
    except VersionGone:
        return False
    return True


def _gap_or(error: LogDamaged, root: Place, span: Span) -> Exception:
    """A gap where the log was cleaned up, else the damage."""
    versions = Versions(root)
    oldest = versions.oldest_in_log()
    return _gap(root, span, error.message) if span.last < oldest else error


def _gap(root: Place, span: Span, why: str) -> SourceGap:
    oldest = max(Versions(root).oldest_readable(), span.after + 2)
    first = span.last if span.after == NEVER else span.after + 1
    return _gap_at(str(root), span.source, (first, max(first, oldest - 1)), oldest, why)


def _gap_at(
    address: str, source: str, missing: tuple[int, int], oldest: int, why: str = ""
) -> SourceGap:
    first, last = missing
    return SourceGap(
        f"{source} ({address}): versions {first} to {last} are needed and gone: vacuum or the "
        f"log's clean-up took them" + (f" ({why})" if why else ""),
        hint=f"the oldest version that can be read is {oldest}; a full refresh of the table takes "
        "the source whole, as it is now",
        first=first,
        last=last,
        oldest=oldest,
        source=source,
    )


def _replaced(root: Place, source: str, after: int, latest: int, why: str) -> SourceReplaced:
    return SourceReplaced(
        f"{source} ({root}): it is processed up to version {after}, and {why} (its newest version "
        f"is {latest})",
        hint="a full refresh of the table takes the source whole, as it is now",
        first=after + 1,
        last=latest,
        oldest=0,
        source=source,
    )
