"""Assignments are balanced and sticky, and a partition never has two holders."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raylake.ingest.assignment import (
    Assignment,
    AssignmentMachine,
    ConsumerDown,
    ConsumerLeaves,
    ConsumerUp,
    Event,
    Grant,
    PartitionsChanged,
    Released,
    assign,
)
from raylake.ingest.unit import SourcePartition

ALL = [SourcePartition(topic, "id", p) for topic in "tu" for p in range(6)]
partitions = st.frozensets(st.sampled_from(ALL))
names = st.frozensets(st.sampled_from("abcde"), max_size=5)


@given(steps=st.lists(st.tuples(partitions, names), min_size=1, max_size=8))
def test_assignments_are_balanced_sticky_and_deterministic(
    steps: list[tuple[frozenset[SourcePartition], frozenset[str]]],
) -> None:
    before = Assignment()
    for wanted, consumers in steps:
        after = assign(wanted, consumers, before)
        assert after == assign(sorted(wanted, reverse=True), sorted(consumers), before)
        assert set(after.owners) == (wanted if consumers else set())
        assert set(after.owners.values()) <= consumers
        sizes = sorted((len(after.of(name)) for name in consumers), reverse=True)
        if consumers:
            least, over = divmod(len(wanted), len(consumers))
            assert sizes == [least + 1] * over + [least] * (len(consumers) - over)
        held = {name: sum(s in wanted for s in before.of(name)) for name in consumers}
        ranked = sorted(held.values(), reverse=True)
        could_stay = sum(min(h, size) for h, size in zip(ranked, sizes, strict=True))
        stayed = sum(after.owners.get(s) == owner for s, owner in before.owners.items())
        assert stayed == could_stay
        changed = after.owners != before.owners
        assert after.generation == before.generation + changed
        before = after


class AssignmentSimulation(RuleBasedStateMachine):
    """Consumers that release late, die at any moment, and a supervisor that hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = AssignmentMachine()
        self.twin = AssignmentMachine()
        self.reading: dict[str, set[SourcePartition]] = {}
        self.asked: dict[str, set[SourcePartition]] = {}
        self.granted: dict[SourcePartition, int] = {}
        self.in_generation: dict[tuple[int, SourcePartition], str] = {}
        self.generation = 0
        self.born = 0
        self.leaving: set[str] = set()
        self.existing: frozenset[SourcePartition] = frozenset()

    def _send(self, event: Event) -> None:
        effects = self.machine.on(event)
        assert effects == self.twin.on(event)
        for effect in effects:
            if isinstance(effect, Grant):
                self._granted(effect)
            else:
                assert set(effect.sources) <= self.reading[effect.consumer]
                assert not set(effect.sources) & self.asked[effect.consumer]
                self.asked[effect.consumer] |= set(effect.sources)
        generations = {e.generation for e in effects if isinstance(e, Grant)}
        assert len(generations) <= 1
        for generation in generations:
            assert generation > self.generation
            self.generation = generation

    def _granted(self, grant: Grant) -> None:
        for source in grant.sources:
            assert not any(source in held for held in self.reading.values())
            assert grant.consumer not in self.leaving
            assert grant.generation > self.granted.get(source, 0)
            self.granted[source] = grant.generation
            key = (grant.generation, source)
            assert self.in_generation.setdefault(key, grant.consumer) == grant.consumer
        self.reading[grant.consumer] |= set(grant.sources)

    @rule()
    def consumer_up(self) -> None:
        if len(self.reading) < 5:
            self.born += 1
            name = f"c{self.born}"
            self.reading[name], self.asked[name] = set(), set()
            self._send(ConsumerUp(name))

    @rule(data=st.data())
    def consumer_dies(self, data: st.DataObject) -> None:
        if self.reading:
            name = data.draw(st.sampled_from(sorted(self.reading)))
            del self.reading[name], self.asked[name]
            self._send(ConsumerDown(name))
            self._send(Released(name, self.existing))

    @rule(data=st.data())
    def consumer_leaves(self, data: st.DataObject) -> None:
        staying = sorted(self.reading.keys() - self.leaving)
        if staying:
            name = data.draw(st.sampled_from(staying))
            self.leaving.add(name)
            self._send(ConsumerLeaves(name))
            assert self.asked[name] == self.reading[name], "it is asked for all that it has"

    @rule(data=st.data())
    def consumer_releases(self, data: st.DataObject) -> None:
        waiting = sorted(name for name, asked in self.asked.items() if asked)
        if waiting:
            name = data.draw(st.sampled_from(waiting))
            some = st.sets(st.sampled_from(sorted(self.asked[name])), min_size=1)
            self._release(name, frozenset(data.draw(some)))

    def _release(self, name: str, sources: frozenset[SourcePartition]) -> None:
        self.asked[name] -= sources
        self.reading[name] -= sources
        self._send(Released(name, sources))

    @rule(existing=partitions)
    def partitions_change(self, existing: frozenset[SourcePartition]) -> None:
        self.existing = existing
        self._send(PartitionsChanged(existing))

    @invariant()
    def the_machine_knows_who_reads_what(self) -> None:
        for name, held in self.reading.items():
            assert set(self.machine.held_by(name)) == held
        for source in ALL:
            holders = [name for name, held in self.reading.items() if source in held]
            assert len(holders) <= 1
            assert self.machine.holder(source) == (holders[0] if holders else None)
            if holders:
                assert self.machine.generation_of(source) == self.granted[source]

    @invariant()
    def every_partition_is_read_or_on_its_way(self) -> None:
        staying = self.reading.keys() - self.leaving
        releasing = {name for name, asked in self.asked.items() if asked}
        assert self.machine.releasing == releasing
        assert self.machine.settled == (not releasing)
        if staying and not releasing:
            held = set().union(*self.reading.values())
            assert held == self.existing
            sizes = [len(self.reading[name]) for name in staying]
            assert max(sizes) - min(sizes) <= 1

    def teardown(self) -> None:
        """Once every release arrives, the assignment settles."""
        for _ in range(3):
            for name in sorted(self.asked):
                if self.asked[name]:
                    self._release(name, frozenset(self.asked[name]))
        assert self.machine.settled
        assert not any(self.asked.values())


TestAssignment = AssignmentSimulation.TestCase
TestAssignment.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
