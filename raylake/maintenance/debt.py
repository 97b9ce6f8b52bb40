"""What a table owes its readers: small files, a decayed Z-order, a long log, and so on.

All of it follows from the table's log; no file of it is read or listed. Each part is a measure and
the threshold from which something is due; the score is the sum of measure ÷ threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.log_reader import LogListing, LogReader
from raylake.maintenance.depth import Floats, Places, boxes, in_order, shares
from raylake.maintenance.policy import Policy
from raylake.maintenance.table_state import TableState
from raylake.tables.compaction_plan import DELETED_SHARE

TOMBSTONES: Final = 0.1
"""Removed bytes that a vacuum may take, as a part of the live ones, from which one is due."""
GAPS: Final = 0.05
"""The part of the files without statistics from which it is told as a debt."""
WORTH_A_CHECKPOINT: Final = 10
"""Fewer commits than this are read as fast as a checkpoint."""
_MIB: Final = 2**20
_GROUP: Final = 4
"""Fewer files than this leave nothing to skip."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the debt.

    Attributes:
        name: ``small_files``, ``zorder``, ``deleted_rows``, ``log``, ``tombstones``,
            ``statistics``.
        measured: How much there is.
        threshold: From which on something is due.
        reason: The same in words.
    """

    name: str
    measured: float
    threshold: float
    reason: str

    @property
    def score(self) -> float:
        """1 or more: due."""
        return self.measured / self.threshold

    @property
    def due(self) -> bool:
        """Whether something should be done."""
        return self.measured >= self.threshold


@dataclass(frozen=True, slots=True)
class LogTail:
    """The log since its checkpoint.

    Attributes:
        commits: Log entries that a reader reads beside the checkpoint.
        age_s: How old the first of them is, in seconds; 0 where it does not say.
        files: Files in the log's folder.
        nbytes: Their bytes.
    """

    commits: int
    age_s: float
    files: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A table as columns, one entry a live file or a partition.

    All but ``files`` is ordered by partition, and within along the Z-order columns.

    Attributes:
        files: The live files, in the order of the log.
        place: Where each file stands in ``files``.
        partition: The number of each file's partition.
        values: The values of each partition.
        sizes: Bytes of each file.
        lows: Lower corners of their boxes, one row a Z-order column.
        highs: Upper corners.
        blind: Which files have no statistics of a Z-order column: each query of it opens them.
        small: How many small files each partition has.
        depth: In how many files a point of each partition lies; empty without Z-order columns.
        target_bytes: The size of new files.
    """

    files: pa.Table = field(repr=False)
    place: Places
    partition: Places
    values: tuple[Mapping[str, str | None], ...]
    sizes: Places
    lows: Floats
    highs: Floats
    blind: npt.NDArray[np.bool_]
    small: Places
    depth: Floats
    target_bytes: int

    def of(self, partition: int) -> slice:
        """The files of a partition."""
        ends = np.searchsorted(self.partition, [partition, partition + 1])
        return slice(int(ends[0]), int(ends[1]))


@dataclass(frozen=True, slots=True)
class Debt:
    """What a table owes at one version.

    Attributes:
        version: The version.
        files: Live files.
        nbytes: Their bytes.
        partitions: How many partitions they lie in.
        parts: Each part, in a fixed order.
        notes: What was tolerated on the way, such as a damaged checkpoint.
    """

    version: int
    files: int
    nbytes: int
    partitions: int
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The sum of the parts' scores."""
        return sum(one.score for one in self.parts)

    @property
    def reasons(self) -> list[str]:
        """What is due, in words, the worst first."""
        found = sorted((one for one in self.parts if one.due), key=lambda one: -one.score)
        return [one.reason for one in found]


def measured(state: TableState, policy: Policy, where: str) -> Measured:
    """A table's files by partition.

    Args:
        state: The table.
        policy: What counts as small.
        where: For messages.

    Raises:
        BadRequest: The policy's target size is none.
    """
    target = policy.target_bytes(state.metadata.configuration, where)
    files = state.live
    partition, values = _partitions(files, state.metadata.partition_columns)
    lows, highs = np.zeros((0, len(files))), np.zeros((0, len(files)))
    if state.columns:
        lows, highs = boxes(files, state.columns)
        order = in_order(lows, highs, partition)
        lows, highs = lows[:, order], highs[:, order]
    else:
        order = np.asarray(np.argsort(partition, kind="stable"), np.int64)
    sizes = _numbers(files, "size")[order]
    partition = partition[order]
    small = np.bincount(
        partition[sizes < policy.small_share * target], minlength=len(values)
    ).astype(np.int64)
    blind, depth = _numbers(files, "gaps")[order] > 0, np.zeros(0)
    if state.columns:
        depth = _depths(lows, highs, partition, len(values))
        depth += np.bincount(partition[blind], minlength=len(values))
    ends = (lows, highs, blind, small, depth)
    return Measured(files, order, partition, values, sizes, *ends, target)


def log_tail(state: TableState, reader: LogReader, listing: LogListing, now_s: float) -> LogTail:
    """How long the log has become since its checkpoint.

    Args:
        state: The table.
        reader: Of its log; the first entry after the checkpoint is read.
        listing: The log's folder.
        now_s: The time, seconds since the epoch.
    """
    first = 0 if state.checkpoint is None else state.checkpoint + 1
    count = state.version + 1 - first
    age_s = 0.0
    if count and first in listing.commits:
        info = reader.commit(first).info
        said_ms = info.get("inCommitTimestamp", info.get("timestamp"))
        if isinstance(said_ms, int | float):
            age_s = max(0.0, now_s - said_ms / 1000)
    return LogTail(count, age_s, listing.files, listing.nbytes)


def debt_of(
    state: TableState, found: Measured, tail: LogTail, policy: Policy, now_s: float
) -> Debt:
    """A table's debt.

    Args:
        state: The table.
        found: Its files by partition.
        tail: Its log.
        policy: The thresholds.
        now_s: The time, seconds since the epoch.
    """
    parts = [_small_files(found, policy)]
    if state.columns:
        parts.append(_zorder(state, found, policy))
    parts += [_deleted_rows(found), _log(tail, policy)]
    parts += [_tombstones(state, found, policy, now_s), _statistics(state, found)]
    return Debt(
        state.version,
        len(found.files),
        int(found.sizes.sum()),
        int((np.bincount(found.partition) > 0).sum()) if len(found.files) else 0,
        tuple(parts),
        state.notes,
    )


def expired(state: TableState, policy: Policy, now_s: float) -> pa.Table:
    """The tombstones whose retention is over."""
    gone = state.gone
    horizon_ms = int((now_s - policy.retention_s(state.metadata.configuration)) * 1000)
    return gone.filter(pa.array(_numbers(gone, "gone_ms") <= horizon_ms))


def _small_files(found: Measured, policy: Policy) -> Part:
    over = found.small[found.small > policy.small_files]
    worst = int(found.small.max(initial=0))
    under = f"under {policy.small_share * found.target_bytes / _MIB:,.4g} MiB"
    reason = f"{worst:,} files {under} in a partition"
    if len(over):
        reason = f"{int(over.sum()):,} files {under}"
        reason += f" in {len(over):,} partitions" if len(found.values) > 1 else ""
    return Part("small_files", float(over.sum() or worst), policy.small_files + 1, reason)


def _zorder(state: TableState, found: Measured, policy: Policy) -> Part:
    worst = float(found.depth.max(initial=0))
    names = ", ".join(one.name for one in state.columns)
    over = int((found.depth > policy.zorder_depth).sum())
    reason = f"a value of {names} lies in {worst:,.1f} files"
    reason += f" ({over:,} of {len(found.values):,} partitions above {policy.zorder_depth:g})"
    return Part("zorder", worst, policy.zorder_depth, reason)


def _deleted_rows(found: Measured) -> Part:
    deleted = int(_numbers(found.files, "deleted").sum())
    rows = int(_numbers(found.files, "records").sum())
    share = deleted / rows if rows else float(deleted > 0)
    vectors = int((_numbers(found.files, "deleted") > 0).sum())
    reason = f"{deleted:,} rows ({share:.1%}) are deleted by vectors of {vectors:,} files"
    return Part("deleted_rows", share, DELETED_SHARE, reason)


def _log(tail: LogTail, policy: Policy) -> Part:
    reason = f"{tail.commits:,} commits since the last checkpoint"
    old = tail.commits >= WORTH_A_CHECKPOINT and tail.age_s >= policy.checkpoint_after_s
    if old and tail.commits < policy.checkpoint_commits:
        reason += f", the first {tail.age_s:,.0f} s ago"
        return Part("log", 1.0, 1.0, reason)
    return Part("log", float(tail.commits), float(policy.checkpoint_commits), reason)


def _tombstones(state: TableState, found: Measured, policy: Policy, now_s: float) -> Part:
    gone = expired(state, policy, now_s)
    nbytes, live = int(_numbers(gone, "size").sum()), int(found.sizes.sum())
    share = nbytes / live if live else float(len(gone) > 0)
    days = policy.retention_s(state.metadata.configuration) / 86_400
    reason = f"{len(gone):,} removed files ({nbytes / _MIB:,.1f} MiB) are older than {days:g} days"
    return Part("tombstones", share, TOMBSTONES, reason)


def _statistics(state: TableState, found: Measured) -> Part:
    lacking = found.files.column("records").is_null().to_numpy()
    lacking = lacking | (_numbers(found.files, "gaps") > 0)
    count = int(lacking.sum())
    names = ", ".join(one.name for one in state.columns)
    reason = f"{count:,} files without statistics" + (f" of {names} or of rows" if names else "")
    return Part("statistics", count / max(1, len(found.files)), GAPS, reason)


def _depths(lows: Floats, highs: Floats, partition: Places, count: int) -> Floats:
    """The depth of each partition; files are ordered by partition."""
    known = ~np.isnan(lows + highs).any(axis=0)
    found = (np.bincount(partition[known], minlength=count) > 0).astype(np.float64)
    ends = np.searchsorted(partition, np.arange(count + 1))
    for at in np.flatnonzero(np.diff(ends) >= _GROUP):
        one = slice(int(ends[at]), int(ends[at + 1]))
        found[at] = shares(lows[:, one], highs[:, one]).sum()
    return found


def _partitions(
    files: pa.Table, names: tuple[str, ...]
) -> tuple[Places, tuple[Mapping[str, str | None], ...]]:
    """The partition of each file by number, and the values of each partition, in their order."""
    if not names:
        return np.zeros(len(files), np.int64), ({},)
    codes: npt.NDArray[np.int64] = np.zeros(len(files), np.int64)
    for at in range(len(names)):
        column = files.column(f"part_{at}").combine_chunks()
        encoded = column.dictionary_encode(null_encoding="encode")
        order = _ranks(encoded.dictionary)
        codes = codes * (len(order) + 1) + order[encoded.indices.to_numpy()]
        if at:
            # Values are numbered without gaps; pairs of them are not.
            _, codes = np.unique(codes, return_inverse=True)
    _, first = np.unique(codes, return_index=True)
    rows = files.select([f"part_{at}" for at in range(len(names))]).take(pa.array(first))
    values = tuple(dict(zip(names, row.values(), strict=True)) for row in rows.to_pylist())
    return np.asarray(codes, np.int64), values


def _ranks(values: pa.Array) -> Places:
    """The place of each value in their order; null comes last."""
    order = pc.array_sort_indices(values).to_numpy()
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values))
    return found


def _numbers(rows: pa.Table, name: str) -> Places:
    return np.asarray(rows.column(name).fill_null(0).to_numpy(), np.int64)
