"""Which files are written anew: small ones together, overlapping ones along the curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from raylake.delta.live_rows import SourceFile
from raylake.maintenance.actions import Action, Refusal
from raylake.maintenance.debt import Measured
from raylake.maintenance.depth import Places, in_order, regions, shares
from raylake.maintenance.policy import Policy
from raylake.maintenance.price import (
    COMPACT_BYTES_A_CPU_S,
    ZORDER_BYTES_A_CPU_S,
    rewrite_price,
)
from raylake.tables.compaction_plan import DELETED_SHARE, Bin, bins

WORTH: float = 0.2
"""A Z-order that takes away less than this part of a region's depth is not worth its price."""


@dataclass(slots=True)
class Found:
    """What was found so far.

    Attributes:
        actions: Jobs.
        refusals: What is let be.
        taken: Files of jobs.
        unseen: How many files without statistics a Z-order is about.
    """

    actions: list[Action] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    unseen: int = 0


def zorders(found: Measured, policy: Policy, into: Found) -> None:
    """Z-orders of decayed regions; of a region the widest files alone, as far as the cap goes."""
    names = ", ".join(policy.zorder)
    if not policy.zorder:
        return
    shallow = int(((found.depth > 0) & (found.depth <= policy.zorder_depth)).sum())
    if shallow:
        text = f"a value of {names} lies in {policy.zorder_depth:g} files or fewer"
        text += f" in {shallow:,} of {len(found.values):,} partitions"
        into.refusals.append(Refusal("zorder", text))
    for at in np.flatnonzero(found.depth > policy.zorder_depth):
        _partition(found, policy, int(at), into)
        _blind(found, policy, int(at), into)
    left = int(found.blind.sum()) - into.unseen
    if left:
        text = f"{left:,} files have no statistics of {names}: a query of it opens them all"
        into.refusals.append(Refusal("zorder", text))
    boxless = np.isnan(found.lows + found.highs).any(axis=0) & ~found.blind
    if boxless.any():
        text = f"{int(boxless.sum()):,} files have no range of {names} (null alone, or values that "
        text += "have none): they are not judged"
        into.refusals.append(Refusal("zorder", text))


def _partition(found: Measured, policy: Policy, at: int, into: Found) -> None:
    own = found.of(at)
    known = own.start + np.flatnonzero(
        ~np.isnan(found.lows[:, own] + found.highs[:, own]).any(axis=0)
    )
    label = regions(found.lows[:, known], found.highs[:, known])
    order = in_order(found.lows[:, known], found.highs[:, known], label)
    known, label = known[order], label[order]
    ends = np.searchsorted(label, np.arange(int(label.max(initial=-1)) + 2))
    for first, last in pairwise(ends.tolist()):
        if last - first > 1:
            _region(found, policy, known[first:last], into)


def _blind(found: Measured, policy: Policy, at: int, into: Found) -> None:
    """Files without statistics get some, and are sorted among themselves."""
    own = found.of(at)
    files = own.start + np.flatnonzero(found.blind[own])
    before = float(found.depth[at])
    fits = int(np.searchsorted(np.cumsum(found.sizes[files]), policy.max_job_bytes, "right"))
    chosen = files[:fits]
    after = before - len(chosen) + 1
    if len(chosen) < 2 or before - after < WORTH * before:
        return
    reason = f"{len(files):,} files have no statistics of {', '.join(policy.zorder)}"
    if fits < len(files):
        reason += f"; {len(files) - fits:,} of them are for another job"
    into.unseen += len(files)
    into.actions.append(_job(found, chosen, (reason, before, after), into))


def _region(found: Measured, policy: Policy, files: Places, into: Found) -> None:
    values = found.values[int(found.partition[files[0]])]
    part = shares(found.lows[:, files], found.highs[:, files])
    before = float(part.sum())
    if before <= policy.zorder_depth:
        return
    # The widest first: they take the most depth away for what they cost.
    order = np.argsort(-part, kind="stable")
    # What is left of the depth is that of the others, and one for the files that are sorted.
    left = before - np.cumsum(part[order]) + 1
    enough = np.flatnonzero(left <= (1 + policy.zorder_depth) / 2)
    order = order[: enough[0] + 1] if len(enough) else order
    fits = int(np.searchsorted(np.cumsum(found.sizes[files[order]]), policy.max_job_bytes, "right"))
    chosen = order[:fits]
    after = before - float(part[chosen].sum()) + 1
    if len(chosen) < 2 or before - after < WORTH * before:
        why = f"a region of {len(files):,} files has depth {before:.1f}, and to sort "
        why += f"{len(chosen):,} of them, within the cap of a job, would leave {after:.1f}"
        into.refusals.append(Refusal("zorder", why, values))
        return
    reason = f"in a region of {len(files):,} files a value lies in {before:.1f} of them"
    if fits < len(order):
        reason += f"; {len(order) - fits:,} more are for another job"
    into.actions.append(_job(found, files[np.sort(chosen)], (reason, before, after), into))


def _job(found: Measured, files: Places, told: tuple[str, float, float], into: Found) -> Action:
    """A Z-order of files of one partition; told are the reason, and the depth before and after."""
    reason, before, after = told
    rows = found.files.take(pa.array(found.place[files]))
    nbytes = int(found.sizes[files].sum())
    new = max(1, math.ceil(nbytes / found.target_bytes))
    paths = tuple(rows.column("path").to_pylist())
    into.taken |= set(paths)
    price = rewrite_price(len(paths), nbytes, _alive(rows), new, ZORDER_BYTES_A_CPU_S)
    gain = f"a value lies in about {after:.1f} files instead of {before:.1f}"
    values = found.values[int(found.partition[files[0]])]
    return Action("zorder", reason, gain, price, values, (paths,))


def compactions(found: Measured, policy: Policy, into: Found) -> None:
    """Compactions of partitions that have more small files than the policy lets be.

    Files with many deleted rows are written anew wherever they are.
    """
    deleted = np.asarray(found.files.column("deleted").fill_null(0).to_numpy())[found.place]
    rows = np.asarray(found.files.column("records").fill_null(0).to_numpy())[found.place]
    holed = np.bincount(
        found.partition[(deleted > 0) & (deleted > DELETED_SHARE * rows)],
        minlength=len(found.values),
    )
    due = (found.small > policy.small_files) | (holed > 0)
    few = int(((found.small > 1) & ~due).sum())
    if few:
        most = int(found.small[~due].max())
        text = f"{few:,} partitions have {most:,} small files or fewer;"
        text += f" up to {policy.small_files:,} are let be"
        into.refusals.append(Refusal("compact", text))
    for at in np.flatnonzero(due):
        files = [
            one
            for one in _files(found, int(at))
            if one.path not in into.taken and (found.small[at] > policy.small_files or one.deleted)
        ]
        _compaction(found, policy, bins(files, found.target_bytes), int(at), into)


def _compaction(
    found: Measured, policy: Policy, packed: Sequence[Bin], at: int, into: Found
) -> None:
    values = found.values[at]
    small = int(found.small[at])
    whole = [one for one in packed if one.size_bytes <= policy.max_job_bytes]
    if len(whole) < len(packed):
        text = f"{len(packed) - len(whole):,} files that would come of it are larger than a job's "
        text += f"cap of {policy.max_job_bytes:,} bytes"
        into.refusals.append(Refusal("compact", text, values))
    if not packed:
        text = f"{small:,} small files: no two of them fit into {found.target_bytes:,} bytes"
        into.refusals.append(Refusal("compact", text, values))
    for job in _jobs(whole, policy.max_job_bytes):
        groups = tuple(tuple(file.path for file in one.files) for one in job)
        nbytes = sum(one.size_bytes for one in job)
        files = [file for one in job for file in one.files]
        total = sum((file.rows or 0) + file.deleted for file in files)
        gone = sum(file.deleted for file in files)
        alive = 1 - gone / total if total else 1.0
        price = rewrite_price(len(files), nbytes, alive, len(job), COMPACT_BYTES_A_CPU_S)
        reason = f"{small:,} files under {policy.small_share * found.target_bytes / 2**20:,.4g} MiB"
        if gone:
            reason += f", {gone:,} deleted rows in {sum(bool(f.deleted) for f in files):,} files"
        gain = f"{len(files) - len(job):,} files fewer"
        into.actions.append(Action("compact", reason, gain, price, values, groups))


def _jobs(packed: Sequence[Bin], cap: int) -> Iterator[list[Bin]]:
    """Bins, one after the other, in jobs of at most a size."""
    job: list[Bin] = []
    size = 0
    for one in packed:
        if job and size + one.size_bytes > cap:
            yield job
            job, size = [], 0
        job.append(one)
        size += one.size_bytes
    if job:
        yield job


def _files(found: Measured, at: int) -> Iterator[SourceFile]:
    """The files of a partition, in the order of the log."""
    own = found.of(at)
    rows = found.files.take(pa.array(np.sort(found.place[own])))
    names = ("path", "size", "records", "deleted")
    for path, size, records, deleted in zip(
        *(rows.column(name).to_pylist() for name in names), strict=True
    ):
        alive = None if records is None else records - (deleted or 0)
        yield SourceFile(path, size, alive, deleted or 0, found.values[at])


def _alive(rows: pa.Table) -> float:
    total = int(rows.column("records").fill_null(0).to_numpy().sum())
    gone = int(rows.column("deleted").fill_null(0).to_numpy().sum())
    return 1 - gone / total if total else 1.0
