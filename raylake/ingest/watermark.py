"""Watermarks: how far event time has come, partition by partition and for the table (DESIGN §8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.clock import Clock
from raylake.ingest.unit import SourcePartition, Unit

LatePolicy = Literal["keep", "flag", "dead_letter"]
Mask = npt.NDArray[np.bool_]
Millis = npt.NDArray[np.int64]

_PER_MS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
_INT64_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class WatermarkPolicy:
    """How event times move the watermark.

    Attributes:
        lateness_s: How far the watermark stays behind the greatest event time.
        idle_timeout_s: A partition without event times for this long holds nothing back.
        max_ahead_s: How far an event time may be ahead of its record's timestamp.
        late: What happens to late records; ``keep`` counts them only.
    """

    lateness_s: float = 600.0
    idle_timeout_s: float = 60.0
    max_ahead_s: float = 3600.0
    late: LatePolicy = "keep"

    def __post_init__(self) -> None:
        if self.lateness_s < 0 or self.idle_timeout_s <= 0 or self.max_ahead_s < 0:
            raise ValueError(f"{self} cannot be followed")
        if self.late not in ("keep", "flag", "dead_letter"):
            raise ValueError(f"late {self.late!r} is not keep, flag or dead_letter")

    @property
    def lateness_ms(self) -> int:
        """The lateness in milliseconds."""
        return round(self.lateness_s * 1000)


@dataclass(frozen=True, slots=True)
class EventTimes:
    """What the event times of one batch are; each row is in one mask at most.

    Attributes:
        null: No event time.
        before_1970: Negative event time.
        ahead: Further ahead than ``max_ahead_s``.
        late: Below the watermark that the batch was judged against.
        max_event_ms: The greatest event time in none of the first three masks; None when there is
            none. Only this moves the watermark.
    """

    null: Mask
    before_1970: Mask
    ahead: Mask
    late: Mask
    max_event_ms: int | None

    def counts(self) -> dict[str, int]:
        """Rows by kind, without zeros: ``null_time before_1970 ahead late``."""
        masks = {
            "null_time": self.null,
            "before_1970": self.before_1970,
            "ahead": self.ahead,
            "late": self.late,
        }
        found = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
        return {name: count for name, count in found.items() if count}


def classify(
    event_times: pa.Array | pa.ChunkedArray | npt.NDArray[np.int64],
    broker_ms: pa.Array | pa.ChunkedArray | npt.NDArray[np.int64],
    watermark_ms: int | None,
    policy: WatermarkPolicy,
    *,
    now_ms: int,
) -> EventTimes:
    """Sort the event times of one batch into kinds, vectorised.

    A record is late when its event time is below ``watermark_ms``: the table's watermark as it was
    known when the batch began. Records of one batch never make each other late, and the decision
    is final with the data commit (I5). Ahead is measured from the record's broker timestamp, or
    from now where that has none or lies in the future itself (producers may set it).

    Args:
        event_times: A timestamp, date or int64 (ms since the epoch) array.
        broker_ms: The records' timestamps, int64 ms; negative or null for none.
        watermark_ms: The watermark at the start of the batch; None: nothing is late.
        policy: Lateness is not applied here: the watermark is less it already.
        now_ms: The consumer's wall clock.

    A column that appeared later and whose type is no time has no event time in any row.
    """
    event_ms, null = _millis(event_times)
    broker, no_broker = _millis(broker_ms)
    reference = np.minimum(broker, now_ms)
    reference[no_broker | (broker < 0)] = now_ms
    before_1970 = ~null & (event_ms < 0)
    ahead = ~null & (event_ms > reference + round(policy.max_ahead_s * 1000))
    sane = ~(null | before_1970 | ahead)
    late = sane & (event_ms < (0 if watermark_ms is None else watermark_ms))
    within = event_ms if sane.all() else event_ms[sane]
    greatest = int(within.max()) if len(within) else None
    return EventTimes(null, before_1970, ahead, late, greatest)


def is_event_time(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold event times: a timestamp, a date, or long ms."""
    types = pa.types
    return bool(types.is_timestamp(kind) or types.is_date(kind) or types.is_integer(kind))


def _millis(values: pa.Array | pa.ChunkedArray | npt.NDArray[np.int64]) -> tuple[Millis, Mask]:
    """Milliseconds (rounded down; 0 where null) and the null mask."""
    if isinstance(values, np.ndarray):
        return values.astype(np.int64, copy=False), np.zeros(len(values), np.bool_)
    null = np.zeros(len(values), np.bool_)
    if values.null_count:
        null = np.asarray(values.is_null(), dtype=np.bool_)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(values.type):
        times, per = _PER_MS[values.type.unit]
    elif is_event_time(values.type):
        times, per = 1, 1
    else:
        return np.zeros(len(values), np.int64), np.ones(len(values), np.bool_)
    values = values.cast(pa.int64())
    raw = np.asarray(pc.fill_null(values, 0) if values.null_count else values, dtype=np.int64)
    if times > 1:
        most = _INT64_MAX // times
        return np.clip(raw, -most, most) * times, null
    return (raw // per if per > 1 else raw), null


@dataclass(frozen=True, slots=True)
class _Partition:
    max_event_ms: int | None
    seen_at: float


class Watermark:
    """The watermark of one table, and of each of its partitions.

    A partition's watermark is its greatest sane event time less the lateness. The table's is the
    least over the active partitions; one that has given no event time yet is active until
    ``idle_timeout_s`` after it was added. Add every partition before the first is observed: one
    that it doesn't know cannot hold it back. It never moves back, whatever partitions come, go or
    wake up; only :meth:`set` may move it back. While no partition is active it stays.

    Not thread-safe, except that :attr:`published` may be read from any thread.

    Args:
        policy: Lateness and time-outs.
        clock: Its monotonic time decides on idleness.
    """

    def __init__(self, policy: WatermarkPolicy, clock: Clock) -> None:
        self.policy = policy
        self.published: int | None = None
        self._clock = clock
        self._partitions: dict[SourcePartition, _Partition] = {}
        self._next_idle_at = float("-inf")

    def add(self, source: SourcePartition, max_event_ms: int | None = None) -> None:
        """Count ``source`` in; no effect when it is known."""
        partition = _Partition(max_event_ms, self._clock.monotonic())
        self._partitions.setdefault(source, partition)
        self._compute()

    def forget(self, source: SourcePartition) -> None:
        """Count ``source`` out: it holds nothing back any more."""
        self._partitions.pop(source, None)
        self._compute()

    def observe(self, source: SourcePartition, max_event_ms: int | None) -> None:
        """Take the greatest sane event time of a batch, as :func:`classify` gave it.

        None (no sane event time in it) is no sign of life: a partition that gives no usable event
        times would hold the table back for ever.
        """
        if max_event_ms is None:
            self.add(source)
            return
        self._partitions[source] = self._moved(source, max_event_ms, self._partitions)
        self._compute()

    def value(self) -> int | None:
        """The table's watermark in ms since the epoch; None while nothing is known.

        Computed at each change, and here once a partition has become idle; otherwise a read costs
        one look at the clock.
        """
        if self._clock.monotonic() >= self._next_idle_at:
            self._compute()
        return self.published

    def preview(self, units: Sequence[Unit]) -> int | None:
        """The watermark as it will be once ``units`` are in the table; nothing is changed."""
        self.value()
        return self._computed(self._after(units))

    def committed(self, units: Sequence[Unit]) -> int | None:
        """Take units that are in the table now; returns the watermark."""
        self._partitions = self._after(units)
        return self._compute()

    def partition_value(self, source: SourcePartition) -> int | None:
        """The watermark of one partition; None when nothing is known of it."""
        known = self._partitions.get(source)
        if known is None or known.max_event_ms is None:
            return None
        return known.max_event_ms - self.policy.lateness_ms

    def idle(self, source: SourcePartition) -> bool:
        """Whether ``source`` holds nothing back (also when it is unknown)."""
        known = self._partitions.get(source)
        return known is None or not self._active(known)

    def classify(
        self,
        event_times: pa.Array | pa.ChunkedArray | npt.NDArray[np.int64],
        broker_ms: pa.Array | pa.ChunkedArray | npt.NDArray[np.int64],
    ) -> EventTimes:
        """:func:`classify` against this table's watermark now."""
        now_ms = round(self._clock.now() * 1000)
        return classify(event_times, broker_ms, self.value(), self.policy, now_ms=now_ms)

    def set(self, value_ms: int) -> None:
        """The deliberate repair: move it to ``value_ms``, back as well as forward.

        What partitions have seen beyond it is forgotten, so that it moves on with new records only.
        """
        self.published = value_ms
        self._cap(value_ms)
        self._compute()

    def restore(self, value_ms: int | None, maxima: Mapping[SourcePartition, int | None]) -> None:
        """Start from the last commit.

        Args:
            value_ms: The watermark that it published; it is never undercut.
            maxima: The greatest event time of each partition. What lies beyond ``value_ms`` is
                forgotten, since a repair with :meth:`set` may have taken it back: the watermark
                waits for new records of that partition, or for its idleness.
        """
        if value_ms is not None:
            self.published = value_ms if self.published is None else max(self.published, value_ms)
        now = self._clock.monotonic()
        for source, max_event_ms in maxima.items():
            self._partitions.setdefault(source, _Partition(max_event_ms, now))
        if value_ms is not None:
            self._cap(value_ms)
        self._compute()

    def snapshot(self) -> dict[str, Any]:
        """For the status document: the value, and each partition's value and idleness."""
        return {
            "value_ms": self.value(),
            "partitions": {
                f"{s.topic}/{s.partition}": {
                    "value_ms": self.partition_value(s),
                    "idle": self.idle(s),
                }
                for s in sorted(self._partitions)
            },
        }

    def _compute(self) -> int | None:
        self.published = self._computed(self._partitions)
        ends = (known.seen_at for known in self._partitions.values() if self._active(known))
        self._next_idle_at = min(ends, default=float("inf")) + self.policy.idle_timeout_s
        return self.published

    def _after(self, units: Iterable[Unit]) -> dict[SourcePartition, _Partition]:
        after = dict(self._partitions)
        for unit in units:
            for one in unit.ranges:
                if one.max_event_ms is not None:
                    after[one.source] = self._moved(one.source, one.max_event_ms, after)
        return after

    def _cap(self, value_ms: int) -> None:
        ceiling = value_ms + self.policy.lateness_ms
        for source, known in self._partitions.items():
            if known.max_event_ms is not None and known.max_event_ms > ceiling:
                self._partitions[source] = replace(known, max_event_ms=ceiling)

    def _active(self, known: _Partition) -> bool:
        return self._clock.monotonic() < known.seen_at + self.policy.idle_timeout_s

    def _moved(
        self,
        source: SourcePartition,
        max_event_ms: int,
        partitions: Mapping[SourcePartition, _Partition],
    ) -> _Partition:
        known = partitions.get(source)
        if known is not None and known.max_event_ms is not None:
            max_event_ms = max(max_event_ms, known.max_event_ms)
        return _Partition(max_event_ms, self._clock.monotonic())

    def _computed(self, partitions: Mapping[SourcePartition, _Partition]) -> int | None:
        active = [known.max_event_ms for known in partitions.values() if self._active(known)]
        seen = [ms for ms in active if ms is not None]
        if not seen or len(seen) < len(active):
            return self.published
        candidate = min(seen) - self.policy.lateness_ms
        return candidate if self.published is None else max(self.published, candidate)
