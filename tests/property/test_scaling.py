"""Whatever the load: the number stays in its bounds; a constant load is no reason to change it."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import Phase, given, settings

from raylake.config import Scaled
from raylake.ingest.assignment import (
    AssignmentMachine,
    ConsumerLeaves,
    ConsumerUp,
    Effect,
    Grant,
    PartitionsChanged,
    Released,
)
from raylake.ingest.scaling import Place, Sample, Scaling
from raylake.ingest.unit import SourcePartition

EVERY_S = 2.0
# To make runs of hundreds of steps smaller takes minutes and tells little.
PHASES = (Phase.explicit, Phase.generate)
bounds = st.tuples(st.integers(1, 6), st.integers(0, 6)).map(
    lambda two: Scaled(min=two[0], max=two[0] + two[1], lag_s=20.0, down_after_s=40.0)
)


class Run:
    """A topic, consumers that come and go as the machine of assignments says, and the scaling."""

    def __init__(self, asked: Scaled, partitions: int, each: float) -> None:
        self.scaling = Scaling(asked, asked.min)
        self.machine = AssignmentMachine()
        self.sources = [SourcePartition("t", "id", number) for number in range(partitions)]
        self.ends = dict.fromkeys(self.sources, 0.0)
        self.nexts = dict.fromkeys(self.sources, 0.0)
        self.holders: dict[SourcePartition, str] = {}
        self.each = each
        self.at_s = 0.0
        self.names: list[str] = []
        self.born = 0
        self.machine.on(PartitionsChanged(frozenset(self.sources)))
        self._size()

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            for source in effect.sources:
                if isinstance(effect, Grant):
                    assert source not in self.holders, "two read it"
                    self.holders[source] = effect.consumer
                else:
                    assert self.holders.pop(source) == effect.consumer
            if not isinstance(effect, Grant):
                self._do(self.machine.on(Released(effect.consumer, frozenset(effect.sources))))

    def _size(self) -> None:
        while len(self.names) < self.scaling.wanted:
            self.names.append(f"c{self.born}")
            self.born += 1
            self._do(self.machine.on(ConsumerUp(self.names[-1])))
        while len(self.names) > self.scaling.wanted:
            self._do(self.machine.on(ConsumerLeaves(self.names.pop())))

    def step(self, arriving: float) -> None:
        """Two seconds pass."""
        self.at_s += EVERY_S
        for name in self.names:
            mine = [s for s in self.sources if self.holders[s] == name]
            budget = self.each * EVERY_S
            for source in mine:
                self.ends[source] += arriving * EVERY_S / len(self.sources)
                read = min(budget, self.ends[source] - self.nexts[source])
                self.nexts[source] += read
                budget -= read
        places = {
            s: Place(self.holders[s], int(self.ends[s]), int(self.nexts[s])) for s in self.sources
        }
        self.scaling.take(Sample(self.at_s, len(self.names), places, 100.0))
        self._size()


@given(
    asked=bounds,
    partitions=st.integers(1, 12),
    loads=st.lists(st.tuples(st.floats(0, 2000), st.integers(1, 40)), min_size=1, max_size=8),
)
@settings(max_examples=150, deadline=None, phases=PHASES)
def test_the_number_stays_in_its_bounds_and_each_partition_has_one_reader(
    asked: Scaled, partitions: int, loads: list[tuple[float, int]]
) -> None:
    run = Run(asked, partitions, each=100.0)
    for arriving, steps in loads:
        for _ in range(steps):
            run.step(arriving)
            assert asked.min <= run.scaling.wanted <= asked.max
            assert run.holders.keys() == set(run.sources)
            assert set(run.holders.values()) <= set(run.names)


@given(
    asked=bounds,
    partitions=st.integers(1, 12),
    arriving=st.floats(0, 1500),
    backlog=st.floats(0, 50_000),
)
@settings(max_examples=100, deadline=None, phases=PHASES)
def test_under_a_constant_load_it_goes_up_then_at_most_down_and_then_stays(
    asked: Scaled, partitions: int, arriving: float, backlog: float
) -> None:
    run = Run(asked, partitions, each=100.0)
    for source in run.sources:
        run.ends[source] = backlog / partitions
    wanted = []
    for _ in range(400):
        run.step(arriving)
        wanted.append(run.scaling.wanted)
    moves = [b - a for a, b in itertools.pairwise(wanted) if a != b]
    turns = sum((a > 0) != (b > 0) for a, b in itertools.pairwise(moves))
    assert turns <= 1, f"to and fro: {moves}"
    if moves:
        assert moves[0] > 0
