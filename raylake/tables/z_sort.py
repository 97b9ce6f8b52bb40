"""Sorting rows along the Z-order curve in bounded memory: a sample, then buckets on the disk."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylake.tables.space import SCRATCH_HINT, require_space
from raylake.tables.threads import together
from raylake.tables.z_curve import Quantiles, Ranks, interleaved, quantiles

BUCKET_BYTES: Final = 64 * 2**20
"""Arrow bytes that a thread sorts at once."""
SPILL_BYTES: Final = 32 * 2**20
"""Arrow bytes that a thread divides into buckets at once."""
MAX_BUCKETS: Final = 512
SAMPLE_ROWS: Final = 100_000
_SLICE_ROWS: Final = 65_536
_ROOM: Final = 0.25
"""By so much of a file's rows its ends may lie elsewhere on the curve, where its boxes end."""
_PLACE: Final = "place on the curve"

Batches = Callable[[], Iterator[pa.RecordBatch]]
Order = npt.NDArray[Any]


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


@dataclass(frozen=True, slots=True)
class _Spilled:
    """Rows on the disk.

    Attributes:
        path: An Arrow file; its last column is the place on the curve.
        batches: By bucket, which of its batches are of it.
    """

    path: Path
    batches: list[list[int]]


@dataclass(frozen=True, slots=True)
class _Buckets:
    """How rows are divided.

    Attributes:
        borders: The places at which buckets begin, but for the first one's.
        each: So many are a file.
    """

    borders: Ranks
    each: int

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.borders) + 1


def sampled(keys: Batches, columns: Sequence[str], rows: int) -> Curve:
    """The curve of rows, by every n-th of them.

    Args:
        keys: The rows' columns that order them.
        columns: Their names.
        rows: About how many there are.
    """
    sample = every_nth(keys, max(1, rows // SAMPLE_ROWS))
    return curve_of(pa.Table.from_batches(sample), columns)


def every_nth(keys: Batches, stride: int) -> list[pa.RecordBatch]:
    """Every n-th row."""
    taken, start = [], 0
    for batch in keys():
        places = np.arange(-start % stride, batch.num_rows, stride)
        taken.append(batch.take(pa.array(places)))
        start += batch.num_rows
    return taken


def curve_of(sample: pa.Table, columns: Sequence[str]) -> Curve:
    """The curve of a sample of rows."""
    borders = tuple(quantiles(sample.column(name)) for name in columns)
    ranks = [one.ranks(sample.column(name)) for name, one in zip(columns, borders, strict=True)]
    return Curve(tuple(columns), borders, np.sort(interleaved(ranks)))


@contextmanager
def z_ordered(
    sources: Sequence[Batches], curve: Curve, count: int, files: int = 1
) -> Iterator[list[Iterator[pa.RecordBatch]]]:
    """Rows along the curve: stretches of it that follow each other, of about as many rows each.

    Rows of the same place keep their order. Of each source, and then of each stretch that is read,
    at most about two buckets are in memory.

    Args:
        sources: The rows, in their order; each is asked once, by a thread of its own.
        curve: Where they lie.
        count: About how many there are.
        files: So many stretches; one may be empty.

    Raises:
        NotEnoughSpace: The scratch folder has no room for all rows; nothing was written.
    """
    streams = [one() for one in sources]
    first = next(streams[0], None)
    total_bytes = 0.0 if first is None else first.nbytes / max(1, first.num_rows) * count
    if first is not None:
        streams[0] = itertools.chain([first], streams[0])
    wanted = min(MAX_BUCKETS, -(-int(total_bytes) // BUCKET_BYTES))
    buckets = _divided(curve.places, files, max(1, wanted // files))
    if buckets.count == 1:
        batches = [_placed(one, curve) for stream in streams for one in stream]
        yield [_sorted(batches)] if batches else []
        return
    limit_bytes = int(2 * total_bytes / buckets.count) + BUCKET_BYTES
    with tempfile.TemporaryDirectory(prefix="raylake-zorder-") as scratch:
        require_space(
            Path(scratch), int(total_bytes), "the scratch folder of a Z-order", SCRATCH_HINT
        )
        works = [
            partial(_spill, stream, curve, buckets, Path(scratch, f"{number}.arrow"))
            for number, stream in enumerate(streams)
        ]
        spilled = together(works, len(works))
        each = buckets.each
        yield [
            _stretch(spilled, range(one * each, (one + 1) * each), limit_bytes)
            for one in range(files)
        ]


def _divided(places: Ranks, files: int, each: int) -> _Buckets:
    """Buckets of about as many rows, so many of them a file."""
    size = len(places) / files
    last = len(places) - 1
    begins = [places[0]]
    for number in range(1, files):
        low, high = (min(int((number + one) * size), last) for one in (-_ROOM, _ROOM))
        below, above = int(places[low]), int(places[high])
        # Of the places between them, the one where the largest box of the curve begins.
        bits = max(0, (below ^ above).bit_length() - 1)
        begins.append(np.uint64(above >> bits << bits))
    at = [*np.searchsorted(places, np.array(begins, np.uint64)).tolist(), last]
    borders: list[Any] = []
    for begin, pair in zip(begins, itertools.pairwise(at), strict=True):
        borders += [begin, *places[np.linspace(*pair, each + 1).astype(np.int64)[1:-1]]]
    return _Buckets(np.array(borders[1:], np.uint64), each)


def _spill(rows: Iterator[pa.RecordBatch], curve: Curve, buckets: _Buckets, path: Path) -> _Spilled:
    """Rows in a file, by stretches of the curve."""
    spilled = _Spilled(path, [[] for _ in range(buckets.count)])
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    written = 0
    with ExitStack() as opened:
        writer = None
        for placed in _chunks(_placed(one, curve) for one in rows):
            bucket = np.searchsorted(buckets.borders, placed.column(-1), side="right")
            # Of 16 bits: those are sorted in linear time.
            order = np.argsort(bucket.astype(np.uint16), kind="stable")
            ordered = placed.take(pa.array(order))
            starts = np.searchsorted(bucket[order], np.arange(buckets.count + 1))
            if writer is None:
                sink = opened.enter_context(pa.OSFile(str(path), "wb"))
                new = pa.ipc.new_file(sink, placed.schema, options=options)
                writer = opened.enter_context(new)
            for which, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
                if end > start:
                    writer.write_batch(ordered.slice(start, end - start))
                    spilled.batches[which].append(written)
                    written += 1
    return spilled


def _chunks(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in rows:
        waiting.append(batch)
        size += batch.nbytes
        if size >= SPILL_BYTES:
            yield _one(waiting)
            waiting, size = [], 0
    if waiting:
        yield _one(waiting)


def _placed(rows: pa.RecordBatch, curve: Curve) -> pa.RecordBatch:
    """Rows with their places as the last column."""
    schema = rows.schema.append(pa.field(_PLACE, pa.uint64()))
    return pa.RecordBatch.from_arrays([*rows.columns, pa.array(curve.of(rows))], schema=schema)


def _stretch(
    spilled: Sequence[_Spilled], buckets: Sequence[int], limit_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Buckets' rows in order; of one that is far too large, piece by piece.

    That happens where very many rows have the same place, so that no order is lost.
    """
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with ExitStack() as opened:
        readers = []
        for one in (one for one in spilled if one.path.exists()):
            source = opened.enter_context(pa.OSFile(str(one.path), "rb"))
            reader = opened.enter_context(pa.ipc.open_file(source, options=options))
            readers.append((one.batches, reader))
        for bucket in buckets:
            waiting: list[pa.RecordBatch] = []
            size = 0
            for batches, reader in readers:
                for which in batches[bucket]:
                    waiting.append(reader.get_batch(which))
                    size += waiting[-1].nbytes
                    if size > limit_bytes:
                        yield from _sorted(waiting)
                        waiting, size = [], 0
            if waiting:
                yield from _sorted(waiting)


def _sorted(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows by their last column, without it."""
    rows = _one(batches)
    batches.clear()
    order = _order(rows.column(-1).to_numpy())
    rows = rows.remove_column(rows.num_columns - 1)
    for start in range(0, len(order), _SLICE_ROWS):
        yield rows.take(pa.array(order[start : start + _SLICE_ROWS]))


def _order(places: Ranks) -> Order:
    """Which row comes first, which next; those of one place in their order."""
    low, bits = places.min(), np.uint64(len(places).bit_length())
    if int(places.max() - low).bit_length() + int(bits) > 64:
        return np.argsort(places, kind="stable")
    # Numbers alone are sorted faster than a permutation; each of them is there once.
    both = ((places - low) << bits) | np.arange(len(places), dtype=np.uint64)
    both.sort()
    found: Order = both & np.uint64((1 << int(bits)) - 1)
    return found


def _one(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches as one."""
    return pa.concat_batches(batches) if len(batches) > 1 else batches[0]
