"""Slots: whoever crashes or repeats itself, and whenever, the answer is what the log holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raylake.delta.ledger import owner_epoch, owner_number
from raylake.delta.owner_slots import Grant, SlotQueue, SlotsTaken, Verdict
from raylake.delta.slot_owner import SlotOwner
from raylake.errors import DependencyUnreachable, Fenced, LogDamaged


@dataclass
class Log:
    """A Delta log: for each version the owner number that it carries, and who wrote it."""

    commits: list[tuple[int | None, str]] = field(default_factory=list)

    @property
    def version(self) -> int:
        return len(self.commits) - 1

    @property
    def number(self) -> int | None:
        return next((n for n, _ in reversed(self.commits) if n is not None), None)

    def versions_of(self, who: str) -> list[int]:
        return [version for version, (_, by) in enumerate(self.commits) if by == who]


class OwnersView:
    """The log as one owner sees it; its store may fail after a commit that landed."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.name = name
        self.number = owner_number(owner_epoch(log.number or 0) + 1, 0)
        self.closed: set[int] = set()
        self.failures = 0
        log.commits.append((self.number, name))

    @property
    def version(self) -> int:
        return self.log.version

    def refresh(self) -> None:
        stored = self.log.number
        assert stored is not None
        if owner_epoch(stored) > owner_epoch(self.number):
            raise Fenced("a newer owner")
        if stored != self.number:
            raise LogDamaged(f"{stored} is in the log, not {self.number}")

    def landed(self, grant: Grant) -> int | None:
        for version, (number, by) in enumerate(self.log.commits):
            if number == grant.number and by != self.name and version > grant.base_version:
                if self.log.number == number:
                    self.number = number
                return version
        return None

    def close(self, grant: Grant) -> int | None:
        if self.number != grant.number:
            found = self.landed(grant)
            if found is not None:
                return found
            self.refresh()
            self.number = grant.number
            self.log.commits.append((grant.number, self.name))
            if self.failures:
                self.failures -= 1
                raise DependencyUnreachable("the store went away after the commit")
        return None


@dataclass
class Runner:
    """An engine that runs one request under its slot, step by step; it may be slow for ever."""

    grant: Grant
    spark: bool
    read: tuple[int, int | None] | None = None
    done: bool = False

    def begin(self, log: Log) -> None:
        stored = log.number
        assert stored is not None
        proper = stored < self.grant.number if self.spark else stored == self.grant.number - 1
        if proper:
            self.read = (log.version, stored)
        else:
            self.done = True

    def commit(self, log: Log) -> None:
        assert self.read is not None
        version, _ = self.read
        since = log.commits[version + 1 :]
        conflict = any(n is not None for n, _ in since) if self.spark else bool(since)
        if conflict:
            # It looks again, as an engine does that tries once more.
            self.read = None
            self.begin(log)
            return
        log.commits.append((self.grant.number, self.grant.request))
        self.done = True


class Slots(RuleBasedStateMachine):
    """One table, owners that follow one another, engines in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log([(None, "created")])
        self.owners: list[SlotOwner] = []
        self.stopped: set[int] = set()
        self.asked = 0
        self.running: list[tuple[int, Runner]] = []
        self.answers: dict[str, Verdict] = {}
        self.new_owner()

    @rule()
    def new_owner(self) -> None:
        if len(self.owners) < 4:
            view = OwnersView(self.log, f"owner-{len(self.owners)}")
            self.owners.append(SlotOwner(view, SlotQueue(max_waiting=3)))

    @rule(which=st.integers(0, 3))
    def ask(self, which: int) -> None:
        index = which % len(self.owners)
        self.asked += 1
        queue = self.owners[index].queue
        if len(queue) < 3:
            assert queue.ask(f"r{self.asked}") is None
        else:
            with pytest.raises(SlotsTaken):
                queue.ask(f"r{self.asked}")

    @rule(which=st.integers(0, 3), spark=st.booleans(), fails=st.booleans())
    def advance(self, which: int, spark: bool, fails: bool) -> None:
        index = which % len(self.owners)
        if index in self.stopped:
            return
        owner = self.owners[index]
        owner._log.failures = int(fails)  # type: ignore[attr-defined]
        before = owner.queue.open
        try:
            grant = owner.advance()
        except DependencyUnreachable:
            return
        except Fenced:
            self.stopped.add(index)
            grant = None
        if before is not None and (found := owner.queue.verdict(before.request)) is not None:
            self.answers[found.request] = found
        if grant is not None:
            self.running.append((index, Runner(grant, spark)))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 30))
    def engine_steps(self, which: int) -> None:
        _, runner = self.running[which % len(self.running)]
        if runner.done:
            return
        if runner.read is None:
            runner.begin(self.log)
        else:
            runner.commit(self.log)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 30))
    def reports(self, which: int) -> None:
        index, runner = self.running[which % len(self.running)]
        if runner.done:
            self.owners[index].queue.ended(runner.grant.request, for_sure=True)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 30))
    def is_lost(self, which: int) -> None:
        # Believed dead: it may well go on.
        index, runner = self.running[which % len(self.running)]
        self.owners[index].queue.ended(runner.grant.request, for_sure=False)

    @rule()
    def somebody_appends(self) -> None:
        self.log.commits.append((None, "foreign"))

    @rule(which=st.integers(0, 3))
    def owner_commits(self, which: int) -> None:
        index = which % len(self.owners)
        owner = self.owners[index]
        view = owner._log
        assert isinstance(view, OwnersView)

        def commit() -> None:
            view.number += 1
            self.log.commits.append((view.number, view.name))

        if index in self.stopped:
            return
        try:
            assert owner.between(commit) == (owner.queue.open is None)
        except Fenced:
            self.stopped.add(index)

    @invariant()
    def each_request_is_applied_at_most_once(self) -> None:
        for number in range(1, self.asked + 1):
            assert len(self.log.versions_of(f"r{number}")) <= 1

    @invariant()
    def answers_are_what_the_log_holds(self) -> None:
        for request, verdict in self.answers.items():
            found = self.log.versions_of(request)
            assert found == ([] if verdict.version is None else [verdict.version])

    @invariant()
    def no_number_is_written_twice(self) -> None:
        numbers = [n for n, _ in self.log.commits if n is not None]
        assert numbers == sorted(set(numbers))


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
