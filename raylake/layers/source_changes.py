"""What versions of a source brought and took, read from its log and the files that this names.

Of each version after the last processed one: its change feed where the commit has one; else rows
of files that it added came, and rows of files that it removed left. Files that only rewrite
(``dataChange=false``) are passed over. A row that a version both took and brought, as it is where
files are written anew around others that changed, did neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.findings import did_you_mean
from raylake.delta import log_files
from raylake.delta.log_reader import LogReader
from raylake.errors import LogDamaged
from raylake.layers import table_ids
from raylake.layers.derived import NEVER, SOURCE_VERSION, SourceRows, Span
from raylake.layers.errors import SourceGap, SourceReplaced
from raylake.layers.sandbox import Limits, Sandbox
from raylake.layers.source_files import CHANGE, SourceColumns, SourceFiles
from raylake.storage.place import Place, place
from raylake.tables import delta_rs_reads
from raylake.tables.errors import UnknownColumn, VersionGone
from raylake.tables.landing import operation_metadata
from raylake.tables.requests import Read
from raylake.tables.versions import Versions

IDLE_VERSIONS: Final = 64
"""So many versions without rows are a span of their own: they are not looked at again then."""
_LOOK_BACK: Final = 256
"""In so many versions a watermark is looked for; every commit of ingestion says it."""
_CAME: Final = ("insert", "update_postimage")
_LEFT: Final = ("delete", "update_preimage")


def look_for(
    root: Place,
    source: str,
    after: int,
    *,
    table_id: str | None = None,
    limit_rows: int | None = None,
    limit_versions: int | None = None,
    until: int | None = None,
) -> Span | None:
    """The next versions to process; None when there is nothing new.

    Versions without rows are part of a span, so that progress passes over them; where there are no
    others, only once there are :data:`IDLE_VERSIONS` of them.

    Args:
        root: The source.
        source: ``layer.name``.
        after: The last version that is processed; :data:`~raylake.layers.derived.NEVER`: none.
        table_id: The source's id when that was; None: not known.
        limit_rows: A span ends before the version with which it would have more rows, by the
            log's statistics; it has at least one version. The whole table, which the first step
            takes, is cut so where its older versions are there and rows were only added.
        limit_versions: So many versions at most.
        until: No version after this one; None: up to the newest.

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
    if after == NEVER:
        return Span(source, str(root), found, NEVER, _first_cut(root, versions, limit_rows, end))
    if limit_versions is not None:
        end = min(end, after + max(1, limit_versions))
    last = _last(root, source, versions, (after, end), limit_rows)
    return None if last is None else Span(source, str(root), found, after, last)


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
    reader = LogReader(str(root))
    try:
        snapshot = reader.snapshot(span.last)
    except LogDamaged as error:
        raise _gap_or(error, root, span) from error
    every = SourceColumns.of(snapshot.metadata)
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
    return SourceRows(span, came.select(wanted), left.select(wanted), watermark_of(root, span.last))


def watermark_of(root: Place, version: int) -> int | None:
    """A table's watermark at a version, ms since the epoch; None: it has none.

    It is in the newest commit that says one: of ingestion, or of a derived table.
    """
    for one in range(version, max(-1, version - _LOOK_BACK), -1):
        actions = log_files.read_commit(root, one)
        if actions is None:
            return None
        ours = log_files.our_metadata(actions) or {}
        said = {**ours, **operation_metadata(log_files.commit_info(actions))}
        if "watermark_ms" in said:
            found = said["watermark_ms"]
            return None if found is None else int(found)
    return None


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
    def rows(self) -> int:
        """How many rows it brought, by the log; those that it copied count too."""
        return sum(_count(one) for one in self.added)


def _rows(root: Place, span: Span, columns: SourceColumns) -> tuple[pa.Table, pa.Table]:
    schema = pa.schema([*columns.logical, (SOURCE_VERSION, pa.int64())])
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
        marks = [box.rows(f"FROM {one} SELECT hash({one})").column(0) for one in ("came", "gone")]
        # Comparing whole rows takes five times as long, and mostly no row is in both.
        shared = [pc.is_in(mine, value_set=others) for mine, others in (marks, reversed(marks))]
        if not pc.any(shared[0]).as_py():
            return came, left
        box.give("came", came.filter(shared[0]))
        box.give("gone", left.filter(shared[1]))
        kept = [
            box.rows(f"FROM {one} EXCEPT ALL FROM {other}")
            for one, other in (("came", "gone"), ("gone", "came"))
        ]
    return (
        pa.concat_tables([came.filter(pc.invert(shared[0])), kept[0].cast(came.schema)]),
        pa.concat_tables([left.filter(pc.invert(shared[1])), kept[1].cast(left.schema)]),
    )


def _stamped(rows: pa.Table, schema: pa.Schema, version: int) -> pa.Table:
    stamp = pa.repeat(pa.scalar(version, pa.int64()), rows.num_rows)
    return pa.table([*rows.columns, stamp], schema=schema)


def _last(
    root: Place,
    source: str,
    versions: Versions,
    between: tuple[int, int],
    limit_rows: int | None,
) -> int | None:
    """The last version of the span after one, up to another; None when nothing is new."""
    after, end = between
    rows, found = 0, False
    for version in range(after + 1, end + 1):
        actions = log_files.read_commit(root, version)
        if actions is None:
            oldest = versions.with_commits()[0]
            raise _gap_at(str(root), source, (after + 1, max(version, oldest - 1)), oldest)
        commit = _Commit.of(actions)
        rows += commit.rows
        if limit_rows is not None and rows > limit_rows and found:
            return version - 1
        found = found or commit.has_rows
    return end if found or end - after >= IDLE_VERSIONS else None


def _first_cut(root: Place, versions: Versions, limit_rows: int | None, latest: int) -> int:
    """The version that the first step takes whole, ``latest`` at most."""
    if limit_rows is None or versions.with_commits()[0] != 0:
        return latest
    rows, cut = 0, latest
    for version in range(latest + 1):
        commit = _Commit.of(log_files.read_commit(root, version) or [])
        if commit.removed or commit.feed:
            return latest
        rows += commit.rows
        if rows > limit_rows and cut == latest:
            cut = max(0, version - 1)
    if cut < latest and not _is_there(root, versions, cut):
        return latest
    return cut


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


def _count(add: dict[str, Any]) -> int:
    """A file's rows by its statistics; without any, as many as could be in it."""
    stats = add.get("stats")
    if isinstance(stats, str):
        at = stats.find('"numRecords"')
        text = stats[at + len('"numRecords"') :].lstrip(" :") if at >= 0 else ""
        digits = text[: len(text) - len(text.lstrip("0123456789"))]
        if digits:
            return int(digits)
    return int(add.get("size") or 0)


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
