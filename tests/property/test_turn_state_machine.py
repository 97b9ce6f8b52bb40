"""Turns beside ingestion: whoever crashes, and whatever a store does, the log and the account hold.

Real tables and owners; what is made up is who does what next, and a store that fails before or
after it has put a log entry, or puts one later than it was looked for.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake.exceptions import CommitFailedError
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raylake.clock import SystemClock
from raylake.delta import log_files, log_table
from raylake.delta.owned_table import OwnedTable
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.owner_turns import RewriteTurns, TurnOver
from raylake.delta.rewritten import FilesChanged, Rewritten
from raylake.errors import Fenced, OutcomeUnknown, Retryable
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.proposals import propose
from raylake.tables.requests import Delete, Read
from raylake.tables.running import Order
from raylake.tables.upkeep_requests import Compact
from tests.integration.verify.lake import Lake, Span

PLACE = log_table.place_entry
FAULTS = ("none", "none", "before", "after", "late")


@dataclass
class Asked:
    """A request: at which owner, what it has written, and what it was told."""

    owner: int
    operation: Delete | Compact
    granted: bool = False
    written: Rewritten | None = None
    takes: frozenset[int] = frozenset()
    told: Verdict | None = None


class Store:
    """Puts log entries as it is told to."""

    def __init__(self) -> None:
        self.next = "none"
        self.late: list[Callable[[], None]] = []

    def place(self, base: Any, path: Any, text: str) -> None:
        fault, self.next = self.next, "none"
        if fault == "before":
            raise OSError("the store did not answer")
        if fault == "late":
            self.late.append(lambda: PLACE(base, path, text))
            raise OSError("the store did not answer yet")
        PLACE(base, path, text)
        if fault == "after":
            raise OSError("the store's answer was lost")


class Turns(RuleBasedStateMachine):
    """One table, its owners, workers in flight, and ingestion beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store()
        log_table.place_entry = self.store.place
        self.lake = Lake(Path(self.folder.name))
        self.lake.admit(Span(0, 0, 0))
        self.owners: list[OwnedTable] = []
        self.turns: list[RewriteTurns] = []
        self.asked: dict[str, Asked] = {}
        self.end = 0
        self.new_owner()
        self.ingest("none")

    @precondition(lambda self: len(self.owners) < 3)
    @rule()
    def new_owner(self) -> None:
        self.lake.owner = self.lake.attach() if self.owners else self.lake.owner
        self.owners.append(self.lake.owner)
        self.turns.append(RewriteTurns(self.lake.owner.rewrites()))

    @rule(fault=st.sampled_from(FAULTS))
    def ingest(self, fault: str) -> None:
        # What came late is in the log, and the owner finds it there.
        self.settle_newest()
        was = self.end = self.lake.owner.states()[Span(0, 0, 0).source].next
        self.store.next = fault
        try:
            self.lake.ingest(Span(0, self.end, self.end + 4))
        except (Retryable, OutcomeUnknown):
            pass
        finally:
            self.store.next = "none"
        self.settle_newest()
        self.end = self.lake.owner.states()[Span(0, 0, 0).source].next
        assert self.end in (was, was + 4)

    def settle_newest(self) -> None:
        """The next commit of the owner finds out; ``ends`` alone reads nothing."""
        self.lake.owner.commit([])

    @rule(which=st.integers(-4, 1), shape=st.integers(0, 4))
    def ask(self, which: int, shape: int) -> None:
        """Mostly at the newest owner."""
        owner = len(self.turns) - 1 if which < 0 else which % len(self.turns)
        compact = shape == 4
        operation = Compact() if compact else Delete(f"_offset % 4 = {shape}")
        request = uuid.uuid4().hex
        self.asked[request] = Asked(owner, operation)
        self.look(request)

    @precondition(lambda self: self.waiting())
    @rule(which=st.integers(0, 9))
    def looks_again(self, which: int) -> None:
        self.look(self.waiting()[which % len(self.waiting())])

    def waiting(self) -> list[str]:
        return [r for r, one in self.asked.items() if not one.granted and one.told is None]

    def look(self, request: str) -> None:
        one = self.asked[request]
        try:
            found = self.turns[one.owner].ask(request)
        except Fenced:
            return
        if isinstance(found, Grant):
            one.granted = True
            self.work(request, one)

    def work(self, request: str, one: Asked) -> None:
        order = Order(str(self.lake.table), one.operation, "", request=request)
        one.written = propose(DeltaRsEngine(), order, SystemClock()).rewritten
        if isinstance(one.operation, Delete):
            number = int(one.operation.where[-1])
            one.takes = frozenset(o for o in self.held() if o % 4 == number)

    @precondition(lambda self: self.written())
    @rule(which=st.integers(0, 9), to=st.integers(-2, 2), fault=st.sampled_from(FAULTS))
    def delivers(self, which: int, to: int, fault: str) -> None:
        """Also to another owner than the one that granted it, and also once more."""
        request = self.written()[which % len(self.written())]
        one = self.asked[request]
        assert one.written is not None
        owner = one.owner if to < 0 else to % len(self.turns)
        self.store.next = fault
        try:
            self.tell(request, self.turns[owner].commit(one.written))
        except (Retryable, OutcomeUnknown, Fenced, TurnOver, FilesChanged):
            pass
        finally:
            self.store.next = "none"

    def written(self) -> list[str]:
        return [r for r, one in self.asked.items() if one.written is not None]

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 99), fault=st.sampled_from(FAULTS))
    def is_lost(self, which: int, fault: str) -> None:
        """Its worker is believed dead: it may well go on."""
        request = list(self.asked)[which % len(self.asked)]
        self.store.next = fault
        try:
            self.tell(request, self.turns[self.asked[request].owner].ended(request))
        except (Retryable, OutcomeUnknown, Fenced):
            pass
        finally:
            self.store.next = "none"

    def tell(self, request: str, verdict: Verdict | None) -> None:
        if verdict is not None:
            known = self.asked[request].told
            assert known in (None, verdict)
            self.asked[request].told = verdict
            event("nothing landed" if verdict.version is None else "landed")

    @precondition(lambda self: self.written())
    @rule(which=st.integers(0, 9))
    def is_delivered_to_a_silent_store_and_given_up(self, which: int) -> None:
        request = self.written()[which % len(self.written())]
        if self.asked[request].told is None:
            self.delivers(which, -1, "late")
            self.is_lost(list(self.asked).index(request), "none")
            if self.store.late:
                self.a_late_entry_arrives()

    @precondition(lambda self: self.store.late)
    @rule()
    def a_late_entry_arrives(self) -> None:
        late = self.store.late.pop()
        try:
            late()
        except CommitFailedError:
            return

    def held(self) -> list[int]:
        found = DeltaRsEngine().read(str(self.lake.table), Read(columns=("_offset",))).read_all()
        return sorted(found.column("_offset").to_pylist())

    def versions(self) -> dict[str, list[int]]:
        """The versions of each batch."""
        found: dict[str, list[int]] = {}
        for version in log_files.commit_versions(self.lake.table):
            actions = log_files.read_commit(self.lake.table, version) or []
            batch = (log_files.our_metadata(actions) or {}).get("batch", "")
            found.setdefault(batch, []).append(version)
        return found

    @invariant()
    def each_request_is_committed_once_at_most_and_answers_are_what_the_log_holds(self) -> None:
        versions = self.versions()
        for request, one in self.asked.items():
            found = versions.get(request, [])
            assert len(found) <= 1
            if one.told is not None:
                assert found == ([] if one.told.version is None else [one.told.version])

    def teardown(self) -> None:
        try:
            # What came late is in the log or not, and the owner goes on from there.
            self.settle_newest()
            end = self.lake.owner.states()[Span(0, 0, 0).source].next
            self.lake.settle()
            versions = self.versions()
            gone = {o for r, one in self.asked.items() if r in versions for o in one.takes}
            assert self.held() == [o for o in range(end) if o not in gone]
            report = self.lake.verify("data")
            assert report.ok, report.findings
        finally:
            log_table.place_entry = PLACE
            self.folder.cleanup()


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
