"""Sorting rows along the Z-order curve in bounded memory: a sample, then buckets on the disk."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.tables.z_curve import Quantiles, Ranks, interleaved, quantiles

BUCKET_BYTES: Final = 64 * 2**20
"""Arrow bytes that are sorted at once."""
MAX_BUCKETS: Final = 256
SAMPLE_ROWS: Final = 100_000
_SLICE_ROWS: Final = 65_536

Batches = Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Where rows lie on the curve.

    Attributes:
        columns: The columns, the most important one first.
        borders: The ranks of each column's values.
        places: The places of the sample's rows, ascending.
    """

    columns: tuple[str, ...]
    borders: tuple[Quantiles, ...]
    places: Ranks

    def of(self, batch: pa.RecordBatch | pa.Table) -> Ranks:
        """The place of each row."""
        pairs = zip(self.columns, self.borders, strict=True)
        return interleaved([one.ranks(batch.column(name)) for name, one in pairs])


def sampled(keys: Batches, columns: Sequence[str], rows: int) -> Curve:
    """The curve of rows, by every n-th of them.

    Args:
        keys: The rows' columns that order them.
        columns: Their names.
        rows: About how many there are.
    """
    stride = max(1, rows // SAMPLE_ROWS)
    taken, start = [], 0
    for batch in keys():
        places = np.arange(-start % stride, batch.num_rows, stride)
        taken.append(batch.take(pa.array(places)))
        start += batch.num_rows
    sample = pa.Table.from_batches(taken)
    borders = tuple(quantiles(sample.column(name)) for name in columns)
    ranks = [one.ranks(sample.column(name)) for name, one in zip(columns, borders, strict=True)]
    return Curve(tuple(columns), borders, np.sort(interleaved(ranks)))


def z_ordered(rows: Batches, curve: Curve, count: int) -> Iterator[pa.RecordBatch]:
    """Rows along the curve, of which at most about two buckets are in memory.

    Args:
        rows: The rows; asked once.
        curve: Where they lie.
        count: About how many there are.
    """
    stream = rows()
    first = next(stream, None)
    if first is None:
        return
    total_bytes = first.nbytes / max(1, first.num_rows) * count
    buckets = min(MAX_BUCKETS, -(-int(total_bytes) // BUCKET_BYTES))
    everything = _chained(first, stream)
    if buckets <= 1:
        yield from _sorted(list(everything), curve)
        return
    at = np.linspace(0, len(curve.places), buckets + 1)[1:-1].astype(np.int64)
    borders = np.unique(curve.places[at])
    with tempfile.TemporaryDirectory(prefix="raylake-zorder-") as scratch:
        found = _spill(everything, curve, borders, Path(scratch))
        for path in found:
            yield from _bucket(path, curve, int(2 * total_bytes / buckets) + BUCKET_BYTES)
            path.unlink()


def _spill(
    rows: Iterator[pa.RecordBatch], curve: Curve, borders: Ranks, scratch: Path
) -> list[Path]:
    """Rows by stretches of the curve, a file each, in the curve's order."""
    paths = [scratch / f"{one:04d}.arrow" for one in range(len(borders) + 1)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    with ExitStack() as opened:
        for batch in rows:
            bucket = np.searchsorted(borders, curve.of(batch), side="right")
            order = np.argsort(bucket, kind="stable")
            ordered = batch.take(pa.array(order))
            starts = [0, *(np.flatnonzero(np.diff(bucket[order])) + 1).tolist(), len(order)]
            for start, end in itertools.pairwise(starts):
                which = int(bucket[order[start]])
                if which not in writers:
                    sink = opened.enter_context(pa.OSFile(str(paths[which]), "wb"))
                    writer = pa.ipc.new_stream(sink, batch.schema, options=options)
                    writers[which] = opened.enter_context(writer)
                writers[which].write_batch(ordered.slice(start, end - start))
    return [path for which, path in enumerate(paths) if which in writers]


def _bucket(path: Path, curve: Curve, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """A bucket's rows in order; of one that is far too large, piece by piece.

    That happens where very many rows have the same place, so that no order is lost.
    """
    waiting: list[pa.RecordBatch] = []
    size = 0
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            waiting.append(batch)
            size += batch.nbytes
            if size > limit_bytes:
                yield from _sorted(waiting, curve)
                waiting, size = [], 0
    if waiting:
        yield from _sorted(waiting, curve)


def _sorted(batches: Sequence[pa.RecordBatch], curve: Curve) -> Iterator[pa.RecordBatch]:
    rows = pa.Table.from_batches(batches)
    order = np.argsort(curve.of(rows), kind="stable")
    for start in range(0, len(order), _SLICE_ROWS):
        taken = pc.take(rows, pa.array(order[start : start + _SLICE_ROWS]))
        yield from taken.combine_chunks().to_batches()


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
