"""What a table's log adds up to, for its upkeep: live files and tombstones as one Arrow table.

The newest readable checkpoint is read in columns, the commits after it are replayed over it. A
state of an earlier version (:mod:`raylake.maintenance.kept_state`) is brought up to date by the
commits since, and by the tombstones of a checkpoint that is newer than its own. Both ways lead to
the same state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Schema

from raylake.delta.features import refuse_log
from raylake.delta.log_reader import LogListing, LogReader, TableMetadata, TableProtocol
from raylake.delta.log_replay import CheckpointUnreadable
from raylake.delta.schema import arrow_schema
from raylake.errors import LogDamaged
from raylake.maintenance.checkpoint_columns import (
    CheckpointHead,
    read_adds,
    read_head,
    read_removes,
)
from raylake.maintenance.replayed import Replayed
from raylake.maintenance.statistics import Ranged, ranged, statistics, statistics_schema
from raylake.storage.place import place
from raylake.tables.errors import BadRequest
from raylake.tables.rearranging import check_columns

_MARK_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class TableState:
    """A table at one version.

    Attributes:
        version: The version.
        checkpoint: The newest readable checkpoint's; None without one.
        mark: Tells the version's log entry from another one of that number.
        metadata: Id, schema, partition columns, properties.
        protocol: Versions and features.
        columns: Columns whose ranges are kept.
        rows: Live files, and files that were removed and that the log still names; columns of
            :func:`rows_schema`.
        notes: What was tolerated, one line each.
    """

    version: int
    checkpoint: int | None
    mark: str
    metadata: TableMetadata
    protocol: TableProtocol
    columns: tuple[Ranged, ...]
    rows: pa.Table = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def live(self) -> pa.Table:
        """The live files."""
        return self.rows.filter(self.rows.column("gone_ms").is_null())

    @property
    def gone(self) -> pa.Table:
        """The tombstones."""
        return self.rows.filter(self.rows.column("gone_ms").is_valid())


@dataclass(frozen=True, slots=True)
class Reading:
    """How a state was come by.

    Attributes:
        listing: The log's folder as it was listed.
        from_version: The version of the state that was brought up to date; None: read anew.
        commits: Log entries that were read.
        changes: Files that they added and removed.
    """

    listing: LogListing
    from_version: int | None
    commits: int
    changes: int


def rows_schema(metadata: TableMetadata, columns: Sequence[Ranged]) -> pa.Schema:
    """Columns of a state's rows.

    ``path`` as the log has it, ``size`` in bytes, ``deleted`` rows by a deletion vector,
    ``gone_ms`` since the epoch and ``gone_version`` for tombstones (null: live; version null: it
    comes from a checkpoint), ``part_N`` partition values as text, and the statistics.
    """
    parts = [(f"part_{at}", pa.string()) for at in range(len(metadata.partition_columns))]
    return pa.schema(
        [
            ("path", pa.string()),
            ("size", pa.int64()),
            ("deleted", pa.int64()),
            ("gone_ms", pa.int64()),
            ("gone_version", pa.int64()),
            *parts,
            *statistics_schema(columns),
        ]
    )


def read_state(
    reader: LogReader, zorder: Sequence[str], known: TableState | None = None
) -> tuple[TableState, Reading]:
    """The state of a table's newest version.

    Args:
        reader: Of its log.
        zorder: Columns whose ranges are wanted.
        known: An earlier state; one that does not fit is passed over.

    Raises:
        NotOurTable: There is no table.
        UnsupportedTable: It has a feature that RayLake does not write, named; or its checkpoint's
            format is not read.
        LogDamaged: A log entry is damaged, or no checkpoint leads to the newest version.
        UnknownColumn, BadRequest: It cannot be Z-ordered by these columns.
    """
    listing = reader.listing()
    if known is not None:
        found = _brought_up_to_date(reader, listing, known, zorder)
        if found is not None:
            return found
    notes = list(listing.notes)
    bases: list[int | None] = [*sorted(listing.checkpoints, reverse=True)]
    if 0 in listing.commits:
        bases.append(None)
    for base in bases:
        try:
            return _anew(reader, listing, base, zorder, notes)
        except CheckpointUnreadable as error:
            notes.append(f"checkpoint {base} is damaged: {error}")
    # Says which of the reasons it is.
    reader.snapshot()
    raise LogDamaged(f"{reader.path}: {'; '.join(notes)}", path=reader.path)


def _anew(
    reader: LogReader,
    listing: LogListing,
    base: int | None,
    zorder: Sequence[str],
    notes: Sequence[str],
) -> tuple[TableState, Reading]:
    names = () if base is None else listing.checkpoints[base]
    tail = Replayed(read_head(reader, names))
    start = 0 if base is None else base + 1
    for version in range(start, listing.latest + 1):
        tail.replay(reader.commit(version))
    metadata, protocol = tail.described(reader)
    refuse_log(protocol, metadata, reader.path)
    columns = _ranged(reader.path, metadata, zorder)
    schema = rows_schema(metadata, columns)
    rows = schema.empty_table()
    if base is not None:
        adds = read_adds(reader, names, metadata.partition_columns)
        live = adds.drop_columns(["stats"])
        for name, values in zip(
            statistics_schema(columns).names,
            statistics(adds.column("stats"), columns).columns,
            strict=True,
        ):
            live = live.append_column(name, values)
        rows = pa.concat_tables([live.select(schema.names), _tombstones(reader, names, schema)])
        rows = _without_vectors(rows)
    state = TableState(
        listing.latest,
        base,
        _mark(reader, listing),
        metadata,
        protocol,
        columns,
        tail.over(rows, metadata, columns),
        tuple(notes),
    )
    return state, Reading(listing, None, listing.latest + 1 - start, len(tail.files))


def _brought_up_to_date(
    reader: LogReader, listing: LogListing, known: TableState, zorder: Sequence[str]
) -> tuple[TableState, Reading] | None:
    """The state from an earlier one; None where that does not lead to the newest version."""
    since = range(known.version + 1, listing.latest + 1)
    if listing.latest < known.version or any(v not in listing.commits for v in since):
        return None
    if not known.mark or _mark(reader, listing, known.version) != known.mark:
        return None
    tail = Replayed(CheckpointHead(known.metadata, known.protocol))
    for version in since:
        tail.replay(reader.commit(version))
    metadata, protocol = tail.described(reader)
    if (metadata.id, metadata.partition_columns) != (
        known.metadata.id,
        known.metadata.partition_columns,
    ):
        return None
    refuse_log(protocol, metadata, reader.path)
    columns = _ranged(reader.path, metadata, zorder)
    if columns != known.columns:
        return None
    if known.checkpoint is not None and known.checkpoint not in listing.checkpoints:
        return None
    rows = tail.over(known.rows, metadata, columns)
    rows, checkpoint, notes = _newest_tombstones(reader, listing, rows, known.checkpoint)
    state = replace(
        known,
        version=listing.latest,
        checkpoint=checkpoint,
        mark=_mark(reader, listing),
        metadata=metadata,
        protocol=protocol,
        rows=rows,
        notes=(*listing.notes, *notes),
    )
    return state, Reading(listing, known.version, len(since), len(tail.files))


def _newest_tombstones(
    reader: LogReader, listing: LogListing, rows: pa.Table, known: int | None
) -> tuple[pa.Table, int | None, list[str]]:
    """The rows with the tombstones that the newest checkpoint still names, and those since."""
    notes = []
    newer = [v for v in listing.checkpoints if v > (-1 if known is None else known)]
    for version in sorted(newer, reverse=True):
        names = listing.checkpoints[version]
        try:
            old = _tombstones(reader, names, rows.schema)
        except CheckpointUnreadable as error:
            notes.append(f"checkpoint {version} is damaged: {error}")
            continue
        stays = pc.or_(
            pc.is_null(rows.column("gone_ms")),
            pc.fill_null(pc.greater(rows.column("gone_version"), version), False),
        )
        return _without_vectors(pa.concat_tables([rows.filter(stays), old])), version, notes
    return rows, known, notes


def _tombstones(reader: LogReader, names: Iterable[str], schema: pa.Schema) -> pa.Table:
    found = read_removes(reader, names)
    columns = [
        found.column(one.name)
        if one.name in found.schema.names
        else pa.chunked_array([pa.nulls(len(found), one.type)])
        for one in schema
    ]
    return pa.table(columns, schema=schema)


def _without_vectors(rows: pa.Table) -> pa.Table:
    """One row a path: a tombstone of a path that lives is that of an older deletion vector.

    Rows come with live files first, then those that were removed last first.
    """
    dead = rows.column("gone_ms").is_valid()
    living = rows.filter(pc.invert(dead))
    gone = rows.filter(dead)
    gone = gone.filter(
        pc.invert(pc.is_in(gone.column("path"), value_set=living.column("path").combine_chunks()))
    )
    if len(gone) and len(gone.column("path").unique()) < len(gone):
        # Of a tombstone that the commits since told, and one of an older vector, the first counts.
        order = [("gone_version", "descending"), ("gone_ms", "descending")]
        gone = gone.take(pc.sort_indices(gone, order, null_placement="at_end"))
        first = pa.table({"path": gone.column("path"), "at": pa.array(range(len(gone)))})
        chosen = first.group_by("path").aggregate([("at", "min")]).column("at_min")
        gone = gone.take(chosen)
    return pa.concat_tables([living, gone])


def _ranged(path: str, metadata: TableMetadata, zorder: Sequence[str]) -> tuple[Ranged, ...]:
    if not zorder:
        return ()
    schema = arrow_schema(Schema.from_json(metadata.schema_json))
    check_columns(place(path), schema, metadata.partition_columns, zorder)
    found = []
    for name in zorder:
        one = ranged(name, schema.field(name).type)
        if one is None:
            raise BadRequest(
                f"{path}: {name!r} ({schema.field(name).type}) has no statistics in Delta tables, "
                "so how far its Z-order has decayed cannot be told",
                hint="name another column",
                column=name,
            )
        found.append(one)
    return tuple(found)


def _mark(reader: LogReader, listing: LogListing, version: int | None = None) -> str:
    """What tells a log entry from another one of the same number; empty where it is gone."""
    at = listing.latest if version is None else version
    if at not in listing.commits:
        return ""
    with reader.files.open(f"_delta_log/{at:020d}.json") as file:
        start = file.read(_MARK_BYTES)
    return f"{listing.commits[at]}:{hashlib.sha256(start).hexdigest()[:32]}"
