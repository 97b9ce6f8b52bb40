"""How large a table is, as its log tells it: what lives, what a vacuum may take, the log itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.log_reader import Commit, LogListing, LogReader

_COLUMNS = {"add": ("path", "size"), "remove": ("path", "size")}


@dataclass(frozen=True, slots=True)
class TableSizes:
    """A table's sizes at one version.

    Attributes:
        version: The version.
        live_files: Data files of the table.
        live_bytes: Their size.
        tombstoned_files: Files that were removed and that the log still names; those that a vacuum
            has deleted leave with the checkpoint that forgets them.
        tombstoned_bytes: Their size, as far as whoever removed them wrote it down.
        log_files: Files in the log's folder.
        log_bytes: Their size.
        committed_at_s: When the version was made, seconds since the epoch; None where its log entry
            is gone or does not say.
    """

    version: int
    live_files: int = 0
    live_bytes: int = 0
    tombstoned_files: int = 0
    tombstoned_bytes: int = 0
    log_files: int = 0
    log_bytes: int = 0
    committed_at_s: float | None = None


@dataclass(slots=True)
class _Sum:
    files: int = 0
    nbytes: int = 0


def table_sizes(path: str, reader: LogReader | None = None) -> TableSizes:
    """Measure a table; its checkpoint is read in columns, the commits after it one by one.

    Args:
        path: The table's normalised address.
        reader: Of the log there, where one is at hand.

    Raises:
        RayLakeError: There is no table, or the store does not answer.
        OSError, ValueError: A file of the log cannot be read (it is cleaned up at this moment).
    """
    reader = reader or LogReader(path)
    listing = reader.listing()
    base = max(listing.checkpoints, default=-1)
    tail: dict[str, tuple[str, int]] = {}
    for version in range(base + 1, listing.latest + 1):
        _replay(tail, reader.commit(version))
    sums = {"add": _Sum(), "remove": _Sum()}
    touched = pa.array(list(tail), pa.string())
    for batch in _checkpoint(reader, listing, base):
        for kind, total in sums.items():
            _count(batch, kind, touched, total)
    for kind, size in tail.values():
        sums[kind].files += 1
        sums[kind].nbytes += size
    return TableSizes(
        listing.latest,
        sums["add"].files,
        sums["add"].nbytes,
        sums["remove"].files,
        sums["remove"].nbytes,
        listing.files,
        listing.nbytes,
        _committed_at_s(reader, listing),
    )


def _replay(tail: dict[str, tuple[str, int]], commit: Commit) -> None:
    # Within a commit an add wins: with a new deletion vector a file is removed and added.
    tail |= {one["path"]: ("remove", int(one.get("size") or 0)) for one in commit.removes()}
    tail |= {one["path"]: ("add", int(one.get("size") or 0)) for one in commit.adds()}


def _committed_at_s(reader: LogReader, listing: LogListing) -> float | None:
    if listing.latest not in listing.commits:
        return None
    info = reader.commit(listing.latest).info
    said_ms = info.get("inCommitTimestamp", info.get("timestamp"))
    return said_ms / 1000 if isinstance(said_ms, int | float) else None


def _checkpoint(reader: LogReader, listing: LogListing, version: int) -> Iterator[pa.RecordBatch]:
    for name in listing.checkpoints.get(version, ()):
        with reader.files.open(f"_delta_log/{name}") as file:
            parquet = pq.ParquetFile(file)
            there = set(parquet.schema_arrow.names)
            columns = [
                f"{kind}.{name}" for kind, of in _COLUMNS.items() if kind in there for name in of
            ]
            yield from parquet.iter_batches(columns=columns)


def _count(batch: pa.RecordBatch, kind: str, touched: pa.Array, total: _Sum) -> None:
    if kind not in batch.schema.names:
        return
    entries = batch.column(kind)
    paths = pc.struct_field(entries, "path")
    mine = pc.and_(pc.is_valid(paths), pc.invert(pc.is_in(paths, value_set=touched)))
    total.files += pc.sum(mine).as_py() or 0
    if any(field.name == "size" for field in entries.type):
        total.nbytes += pc.sum(pc.struct_field(entries, "size").filter(mine)).as_py() or 0
