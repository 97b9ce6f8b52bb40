"""The quarantine of a pipeline: rows that did not get into its tables, and how they come back.

A step writes rejected rows as data files into the table's folder (:func:`write`), names these in
the metadata of its commit under ``quarantine``, and afterwards they are added
(:func:`follow_up`, :mod:`raylake.quality.side_table`). A step that fails leaves files that nothing
names.

A row is known by ``quarantine_id``: the same row of the source, rejected again by the same rule
for the same table, has the same one. A **replay** is a step whose source rows are decoded rows of
here. It names a file of markers in its commit, which have the ids of the rows that it took and
``replayed_at``; a row is *open* while it was rejected after its last marker. So the commit that
writes a replayed row is the one that closes it here, and a row that is refused again stays open.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake import faults
from raylake.clock import Clock
from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.metadata import file_from_json, file_json
from raylake.delta.spec import Durability
from raylake.ingest.unit import DataFile
from raylake.layers.derived import SOURCE_VERSION, Rejected, Span
from raylake.quality import row_json
from raylake.quality.bounds import is_text
from raylake.quality.duck import ask
from raylake.quality.side_table import Named, SideTable, Target
from raylake.quality.side_table import follow_up as _follow_up
from raylake.tables.requests import Read

METADATA: Final = "quarantine"
"""The key of RayLake's metadata in a commit under which a step names its files."""
COORDINATES: Final = ("_topic", "_partition", "_offset")
PARTITION_BY: Final = ("date", "table")
SCHEMA: Final = pa.schema(
    [
        ("table", pa.string()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("reason", pa.string()),
        ("severity", pa.string()),
        ("source", pa.string()),
        ("source_table_id", pa.string()),
        ("source_version", pa.int64()),
        ("target_table_id", pa.string()),
        ("row", pa.string()),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("quarantine_id", pa.string()),
        ("quarantined_at", pa.timestamp("us", tz="UTC")),
        ("replayed_at", pa.timestamp("us", tz="UTC")),
        ("replay", pa.int64()),
        ("date", pa.date32()),
    ]
)
"""The columns; what marks a replay is the row again with ``replayed_at`` and without ``row``.

``replay`` is the number of the replay that the row was marked by, or rejected again in; the commit
of the table that holds what passed has the same one.
"""
_STATS: Final = (
    "rule",
    "source_version",
    "_offset",
    "quarantine_id",
    "quarantined_at",
    "replayed_at",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rejected rows were to go, and where they came from.

    Attributes:
        target: The table.
        span: The versions of the source.
        now: When, with a zone.
        replay: The number of the replay; None: they came from the source.
    """

    target: Target
    span: Span
    now: datetime
    replay: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of the quarantine that a step takes.

    Attributes:
        rows: As of :func:`select`; those that are not rejected again are closed.
        replay: The number of the replay.
    """

    rows: pa.Table
    replay: int


def quarantine_table(path: str) -> SideTable:
    """The quarantine at an address, ``<lake>/quarantine/<pipeline>``."""
    return SideTable(path, SCHEMA, PARTITION_BY, METADATA)


def letters(origin: Origin, rejected: Sequence[Rejected]) -> pa.Table:
    """Rejected rows as rows of the quarantine; equal steps make equal rows but for the time."""
    counts: Counter[str] = Counter()
    return pa.concat_tables(
        [SCHEMA.empty_table(), *(_letters(origin, one, counts) for one in rejected)]
    )


def markers(taken: Taken, rejected: pa.Table, now: datetime) -> pa.Table:
    """What says that rows were replayed: all but those that were rejected again.

    Args:
        taken: The rows.
        rejected: What the replay rejected, as of :func:`letters`.
        now: When, with a zone.
    """
    again = rejected.column("quarantine_id").combine_chunks()
    rows = taken.rows
    rows = rows.filter(pc.invert(pc.is_in(rows.column("quarantine_id"), value_set=again)))
    said: Mapping[str, Any] = {"replayed_at": now.astimezone(UTC), "replay": taken.replay}
    for name, value in {**said, "row": None}.items():
        at = SCHEMA.get_field_index(name)
        values = pa.repeat(pa.scalar(value, SCHEMA.field(at).type), rows.num_rows)
        rows = rows.set_column(at, SCHEMA.field(at), values)
    return rows


def not_before(now: datetime, taken: Taken) -> datetime:
    """A time after all that rows have been through, though clocks differ."""
    earlier = taken.rows.column("quarantined_at")
    newest = pc.max(earlier).as_py() if len(earlier) else None
    return now if newest is None else max(now, newest + timedelta(microseconds=1))


def write(
    side: SideTable, rows: Sequence[pa.Table], durability: Durability = "sync"
) -> list[dict[str, Any]]:
    """Write rows of the quarantine as files that are no part of it yet.

    Args:
        side: The quarantine.
        rows: What :func:`letters` and :func:`markers` gave.
        durability: ``sync``: they are on the disk when this returns.

    Returns:
        The files, for a commit's metadata under :data:`METADATA`; empty without rows.

    Raises:
        DependencyUnreachable: The folder cannot be written; nothing refers to what was.
    """
    whole = pa.concat_tables([SCHEMA.empty_table(), *rows])
    options = WriteOptions(durability, stats_columns=_STATS)
    files = write_data_files(side.path, whole, SCHEMA, PARTITION_BY, options)
    faults.reach("quality.written", rows=whole.num_rows, path=side.path)
    return [file_json(file) for file in files]


def follow_up(side: SideTable, target: Target, clock: Clock) -> int:
    """Add the files that a table's commits name; see :func:`raylake.quality.side_table.follow_up`.

    Returns:
        The number of commits whose files were added now.
    """
    return _follow_up(side, target, _files, clock)


def select(read: Callable[[Read], pa.RecordBatchReader], where: str | None = None) -> pa.Table:
    """The open rows: each once, the newest time that it was rejected.

    Args:
        read: Reads the quarantine, each time at the same version.
        where: A condition on its columns, such as ``"table" = 'silver.orders'``.

    Raises:
        BadExpression, UnknownColumn: It is no condition on these columns.
    """
    found = read(Read(where, tuple(SCHEMA.names))).read_all().cast(SCHEMA)
    marked = Read("replayed_at IS NOT NULL", ("quarantine_id", "replayed_at"))
    closed = read(marked).read_all()
    return ask(_OPEN, found=found, closed=closed).select(SCHEMA.names).cast(SCHEMA)


def source_rows(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of the quarantine as rows of their source again, for ``SourceRows.came``.

    Args:
        rows: As of :func:`select`, of one source.
        schema: The source's columns as they are now; one that a row lacks is null.

    Raises:
        ValueError: A row has a value that its column cannot hold.
    """
    return row_json.decode(rows.column("row").to_pylist(), schema)


_OPEN: Final = """
    WITH last AS (SELECT quarantine_id, max(replayed_at) AS at FROM closed GROUP BY quarantine_id),
    newest AS (SELECT * FROM found WHERE replayed_at IS NULL QUALIFY row_number() OVER
               (PARTITION BY quarantine_id ORDER BY quarantined_at DESC) = 1)
    SELECT newest.* FROM newest LEFT JOIN last USING (quarantine_id)
    WHERE last.at IS NULL OR newest.quarantined_at > last.at
    ORDER BY newest.quarantined_at, source_version, _topic, _partition, _offset, quarantine_id"""


def _files(target: Target, named: Sequence[Named]) -> Sequence[DataFile]:  # noqa: ARG001
    return [file_from_json(entry) for one in named for entry in one.entries]


def _letters(origin: Origin, one: Rejected, counts: Counter[str]) -> pa.Table:
    rows, span, target = one.rows, origin.span, origin.target
    count, now = rows.num_rows, origin.now.astimezone(UTC)
    texts = row_json.encode(rows)
    place = {name: _column(rows, name) for name in COORDINATES}
    versions = _column(rows, SOURCE_VERSION)
    known = pc.fill_null(versions, span.last)
    about = f"{target.table_id}\x1f{span.table_id}\x1f{one.rule}"
    begin = 0 if span.part is None else span.part.begin
    return (
        pa.table(
            {
                "table": pa.repeat(target.name, count),
                "rule": pa.repeat(one.rule, count),
                "column": pa.repeat(one.column, count),
                "value": one.values.cast(pa.string()),
                "reason": pa.repeat(one.reason, count),
                "severity": pa.repeat(one.severity, count),
                "source": pa.repeat(span.source, count),
                "source_table_id": pa.repeat(span.table_id, count),
                "source_version": known,
                "target_table_id": pa.repeat(target.table_id, count),
                "row": pa.array(texts, pa.string()),
                **place,
                "quarantine_id": pa.array(
                    _ids(_Told(about, begin, counts), texts, known, place), pa.string()
                ),
                "quarantined_at": pa.repeat(
                    pa.scalar(now, SCHEMA.field("quarantined_at").type), count
                ),
                "replayed_at": pa.nulls(count, SCHEMA.field("replayed_at").type),
                "replay": pa.repeat(pa.scalar(origin.replay, pa.int64()), count),
                "date": pa.repeat(pa.scalar(now.date(), pa.date32()), count),
            }
        )
        .select(SCHEMA.names)
        .cast(SCHEMA)
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What tells rows of a step apart, beside themselves.

    Attributes:
        about: Table, source and rule.
        begin: Where the step's part of a version begins.
        counts: How often a row was there.
    """

    about: str
    begin: int
    counts: Counter[str]


def _ids(
    told: _Told, texts: Sequence[str], versions: pa.Array, place: Mapping[str, pa.Array]
) -> list[str]:
    """A row's id: by its coordinates, else by what it is and the version that brought it.

    Rows that agree in all that are told apart by the part of the version that they are of, and by
    their number in the step.
    """
    found = []
    coordinates = zip(*(place[name].to_pylist() for name in COORDINATES), strict=True)
    for text, version, at in zip(texts, versions.to_pylist(), coordinates, strict=True):
        if None not in at:
            known = [str(one) for one in at]
        else:
            known = [str(version), text, *([str(told.begin)] if told.begin else [])]
        what = "\x1f".join((told.about, *known))
        digest = hashlib.sha256(f"{what}\x1f{told.counts[what]}".encode()).hexdigest()
        told.counts[what] += 1
        found.append(digest[:32])
    return found


def _column(rows: pa.Table, name: str) -> pa.Array:
    kind = SCHEMA.field("source_version" if name == SOURCE_VERSION else name).type
    found = rows.schema.field(name).type if name in rows.schema.names else pa.null()
    if not (is_text(found) if is_text(kind) else pa.types.is_integer(found)):
        # A source that is not of Kafka's may call other columns so.
        return pa.nulls(rows.num_rows, kind)
    return rows.column(name).combine_chunks().cast(kind)
