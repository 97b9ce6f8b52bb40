"""Partitions are spread evenly, move as little as possible, and have one holder at a time."""

from __future__ import annotations

import pickle

from raylake.ingest.assignment import (
    Assignment,
    AssignmentMachine,
    ConsumerDown,
    ConsumerUp,
    Grant,
    PartitionsChanged,
    Released,
    Revoke,
    assign,
)
from raylake.ingest.unit import SourcePartition


def _partitions(count: int, topic: str = "t") -> list[SourcePartition]:
    return [SourcePartition(topic, "id", p) for p in range(count)]


P = _partitions(4)


def test_spreads_evenly_and_each_topic_over_all_consumers() -> None:
    assignment = assign(_partitions(4) + _partitions(4, "u"), ["b", "a"])
    assert assignment.generation == 1
    for consumer in "ab":
        assert [s.topic for s in assignment.of(consumer)] == ["t", "t", "u", "u"]


def test_without_a_change_it_is_the_same_assignment() -> None:
    first = assign(P, ["a", "b"])
    assert assign(reversed(P), ["b", "a"], first) is first


def test_a_lost_consumers_partitions_move_and_the_others_stay() -> None:
    first = assign(_partitions(6), ["a", "b", "c"])
    second = assign(_partitions(6), ["a", "c"], first)
    assert second.generation == 2
    assert set(first.of("a")) < set(second.of("a"))
    assert set(first.of("c")) < set(second.of("c"))
    assert [len(second.of(name)) for name in "abc"] == [3, 0, 3]


def test_a_new_consumer_takes_as_few_as_balance_wants() -> None:
    first = assign(_partitions(7), ["a", "b"])
    second = assign(_partitions(7), ["a", "b", "c"], first)
    moved = [s for s in first.owners if first.owners[s] != second.owners[s]]
    assert sorted(len(second.of(name)) for name in "abc") == [2, 2, 3]
    assert len(moved) == 2
    assert {second.owners[s] for s in moved} == {"c"}


def test_new_partitions_go_to_the_emptiest_and_gone_ones_go() -> None:
    first = assign(_partitions(3), ["a", "b"])
    second = assign(_partitions(4), ["a", "b"], first)
    assert all(second.owners[s] == first.owners[s] for s in first.owners)
    assert len(second.of("a")) == len(second.of("b")) == 2
    third = assign(_partitions(1), ["a", "b"], second)
    assert list(third.owners) == _partitions(1)
    assert third.generation == 3


def test_without_consumers_nothing_is_assigned() -> None:
    assert assign(P, []) == Assignment()
    first = assign(P, ["a"])
    assert assign(P, [], first) == Assignment(2, {})


def test_an_assignment_survives_pickling_and_is_not_changed_from_outside() -> None:
    owners = {P[0]: "a"}
    assignment = Assignment(3, owners)
    owners[P[1]] = "b"
    assert pickle.loads(pickle.dumps(assignment)) == Assignment(3, {P[0]: "a"})


def test_the_first_consumer_gets_everything() -> None:
    machine = AssignmentMachine(generation=41)
    assert machine.on(PartitionsChanged(frozenset(P))) == []
    assert not machine.target.owners
    assert machine.on(ConsumerUp("a")) == [Grant("a", tuple(P), 42)]
    assert machine.on(ConsumerUp("a")) == []
    assert machine.settled
    assert machine.consumers == {"a"}
    assert (machine.holder(P[0]), machine.generation_of(P[0])) == ("a", 42)


def test_failure_07_a_partition_is_granted_only_after_it_was_released() -> None:
    machine = AssignmentMachine()
    machine.on(PartitionsChanged(frozenset(P)))
    machine.on(ConsumerUp("a"))
    effects = machine.on(ConsumerUp("b"))
    assert effects == [Revoke("a", (P[2], P[3]))]
    assert not machine.settled
    assert machine.held_by("a") == tuple(P)
    assert machine.on(Released("a", frozenset({P[3]}))) == [Grant("b", (P[3],), 2)]
    assert machine.on(Released("a", frozenset({P[2], P[3]}))) == [Grant("b", (P[2],), 3)]
    assert machine.settled
    assert machine.generation == 3


def test_a_dead_holder_frees_what_it_was_asked_for() -> None:
    machine = AssignmentMachine()
    machine.on(PartitionsChanged(frozenset(P)))
    machine.on(ConsumerUp("a"))
    machine.on(ConsumerUp("b"))
    assert machine.on(ConsumerDown("a")) == [Grant("b", tuple(P), 2)]
    assert machine.on(Released("a", frozenset(P))) == []
    assert machine.on(ConsumerDown("a")) == []
    assert machine.settled


def test_a_partition_that_is_wanted_back_is_granted_anew_after_its_release() -> None:
    machine = AssignmentMachine()
    machine.on(PartitionsChanged(frozenset(P)))
    machine.on(ConsumerUp("a"))
    machine.on(ConsumerUp("b"))
    assert machine.on(ConsumerDown("b")) == []
    assert machine.target.of("a") == tuple(P)
    assert not machine.settled
    assert machine.on(Released("a", frozenset(P[2:]))) == [Grant("a", (P[2], P[3]), 2)]
    assert machine.settled


def test_partitions_that_are_gone_are_revoked_and_not_granted() -> None:
    machine = AssignmentMachine()
    machine.on(PartitionsChanged(frozenset(P)))
    machine.on(ConsumerUp("a"))
    assert machine.on(PartitionsChanged(frozenset(P[:3]))) == [Revoke("a", (P[3],))]
    assert machine.on(Released("a", frozenset({P[3]}))) == []
    assert machine.settled
    assert (machine.holder(P[3]), machine.generation_of(P[3])) == (None, None)


def test_grants_of_one_step_share_a_generation() -> None:
    machine = AssignmentMachine()
    machine.on(ConsumerUp("b"))
    machine.on(ConsumerUp("a"))
    effects = machine.on(PartitionsChanged(frozenset(P)))
    assert effects == [Grant("a", (P[0], P[2]), 1), Grant("b", (P[1], P[3]), 1)]
