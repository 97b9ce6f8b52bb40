"""The watermark never moves back by itself, whatever partitions, clocks and restarts do."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raylake.clock import ManualClock
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.ingest.watermark import Watermark, WatermarkPolicy, classify

SOURCES = [SourcePartition("t", "id", p) for p in range(4)]
POLICY = WatermarkPolicy(lateness_s=0.1, idle_timeout_s=60, max_ahead_s=1)
LATENESS_MS = 100
HOUR_MS = 3_600_000

event_ms = st.integers(0, 5_000)
some_sources = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=4, unique=True)


def _unit(maxima: dict[SourcePartition, int]) -> Unit:
    ranges = (OffsetRange(s, 0, 1, Counts(rows=1), max_event_ms=ms) for s, ms in maxima.items())
    return Unit("p", "c", 1, "f", tuple(ranges))


class WatermarkMachine(RuleBasedStateMachine):
    """Against a model that knows every partition's maximum and when it was last seen."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.watermark = Watermark(POLICY, self.clock)
        self.maxima: dict[SourcePartition, int | None] = {}
        self.seen: dict[SourcePartition, float] = {}
        self.least: int | None = None

    def _active(self) -> list[SourcePartition]:
        return [s for s, at in self.seen.items() if self.clock.monotonic() - at < 60]

    def _see(self, source: SourcePartition, ms: int) -> None:
        self.maxima[source] = max(ms, self.maxima.get(source) or 0)
        self.seen[source] = self.clock.monotonic()

    def _cap(self, value: int) -> None:
        for source, ms in self.maxima.items():
            if ms is not None:
                self.maxima[source] = min(ms, value + LATENESS_MS)

    @rule(sources=some_sources, data=st.data())
    def commit(self, sources: list[SourcePartition], data: st.DataObject) -> None:
        unit = _unit({source: data.draw(event_ms) for source in sources})
        before = self.watermark.snapshot()
        preview = self.watermark.preview([unit])
        assert self.watermark.snapshot() == before
        assert self.watermark.committed([unit]) == preview
        for one in unit.ranges:
            assert one.max_event_ms is not None
            self._see(one.source, one.max_event_ms)

    @rule(source=st.sampled_from(SOURCES), ms=event_ms)
    def observe(self, source: SourcePartition, ms: int) -> None:
        self.watermark.observe(source, ms)
        self._see(source, ms)

    @rule(source=st.sampled_from(SOURCES))
    def add(self, source: SourcePartition) -> None:
        self.watermark.observe(source, None)
        self.maxima.setdefault(source, None)
        self.seen.setdefault(source, self.clock.monotonic())

    @rule(source=st.sampled_from(SOURCES))
    def forget(self, source: SourcePartition) -> None:
        self.watermark.forget(source)
        self.maxima.pop(source, None)
        self.seen.pop(source, None)

    @rule(seconds=st.sampled_from([1, 30, 59, 60]))
    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(seconds=st.floats(-1e9, 1e9))
    def wall_clock_jumps(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule()
    def restart(self) -> None:
        published = self.watermark.value()
        successor = Watermark(POLICY, self.clock)
        successor.restore(published, dict(self.maxima))
        assert published is None or successor.value() == published
        self.watermark = successor
        self.seen = dict.fromkeys(self.maxima, self.clock.monotonic())
        if published is not None:
            self._cap(published)

    @rule(value=event_ms)
    def repair(self, value: int) -> None:
        self.watermark.set(value)
        assert self.watermark.value() == value
        self.least = value
        self._cap(value)

    @invariant()
    def it_never_moves_back(self) -> None:
        value = self.watermark.value()
        if self.least is not None:
            assert value is not None
            assert value >= self.least
        self.least = value

    @invariant()
    def it_is_behind_every_active_partition_or_where_it_was(self) -> None:
        value = self.watermark.value()
        active = [self.maxima[s] for s in self._active()]
        seen = [ms for ms in active if ms is not None]
        if active and len(seen) == len(active):
            assert value is not None
            assert value >= min(seen) - LATENESS_MS
        for source in SOURCES:
            assert self.watermark.idle(source) == (source not in self._active())
            ms = self.maxima.get(source)
            expected = None if ms is None else ms - LATENESS_MS
            assert self.watermark.partition_value(source) == expected

    @invariant()
    def it_is_never_ahead_of_what_was_seen(self) -> None:
        value = self.watermark.value()
        assert value is None or value <= 5_000


TestWatermark = WatermarkMachine.TestCase
TestWatermark.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


batches = st.lists(
    st.tuples(st.integers(0, 3), st.lists(event_ms, min_size=1, max_size=5)), max_size=30
)


@given(batches=batches, cuts=st.lists(st.integers(0, 30), max_size=5))
def test_property_35_watermarks_of_merged_partitions_are_the_least_maximum(
    batches: list[tuple[int, list[int]]], cuts: list[int]
) -> None:
    """Without idleness and once every partition spoke, restarts and cuts do not matter."""
    clock = ManualClock()
    watermark = Watermark(POLICY, clock)
    for source in SOURCES:
        watermark.observe(source, 0)
    maxima = dict.fromkeys(SOURCES, 0)
    published = [watermark.value()]
    for at, (partition, times) in enumerate(batches):
        source = SOURCES[partition]
        if at in cuts:
            restored = Watermark(POLICY, clock)
            restored.restore(watermark.value(), dict.fromkeys(SOURCES))
            for s in SOURCES:
                restored.observe(s, maxima[s])
            watermark = restored
        watermark.observe(source, max(times))
        maxima[source] = max(maxima[source], *times)
        published.append(watermark.value())
        assert published[-1] == min(maxima.values()) - LATENESS_MS
    assert published == sorted(published, key=lambda value: value or 0)


wild_ms = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.integers(999_990, 1_003_000),
)
records = st.lists(
    st.tuples(wild_ms, st.one_of(st.none(), st.integers(-1, 1_002_000))), max_size=40
)


@given(records=records, watermark_ms=st.one_of(st.none(), st.integers(0, 1_001_000)))
def test_property_35_watermarks_classify_as_a_loop_over_the_rows_would(
    records: list[tuple[int | None, int | None]], watermark_ms: int | None
) -> None:
    now_ms = 1_001_000
    times = pa.array([ms for ms, _ in records], pa.int64())
    broker = pa.array([ms for _, ms in records], pa.int64())
    found = classify(times, broker, watermark_ms, POLICY, now_ms=now_ms)
    sane = []
    for row, (ms, broker_ms) in enumerate(records):
        reference = now_ms if broker_ms is None or broker_ms < 0 else min(broker_ms, now_ms)
        kind = "sane"
        if ms is None:
            kind = "null"
        elif ms < 0:
            kind = "before_1970"
        elif ms > reference + 1000:
            kind = "ahead"
        else:
            sane.append(ms)
            kind = "late" if watermark_ms is not None and ms < watermark_ms else "sane"
        for name in ("null", "before_1970", "ahead", "late"):
            assert bool(getattr(found, name)[row]) == (kind == name)
    assert found.max_event_ms == max(sane, default=None)


@given(
    times=st.lists(st.integers(0, 10_000), min_size=1, max_size=50),
    wild=st.lists(st.one_of(st.none(), st.just(-1), st.just(HOUR_MS * 10**6)), max_size=10),
)
def test_property_35_watermarks_do_not_move_by_wild_event_times(
    times: list[int], wild: list[int | None]
) -> None:
    clock = ManualClock(start=10.0)
    watermark, plain = Watermark(POLICY, clock), Watermark(POLICY, clock)
    mixed = [*wild, *times]
    with_wild = watermark.classify(pa.array(mixed, pa.int64()), np.full(len(mixed), 10_000))
    without = plain.classify(np.array(times), np.full(len(times), 10_000))
    assert with_wild.max_event_ms == without.max_event_ms
    watermark.observe(SOURCES[0], with_wild.max_event_ms)
    plain.observe(SOURCES[0], without.max_event_ms)
    assert watermark.value() == plain.value() == max(times) - LATENESS_MS
