"""Owners of one real table that take turns, come between each other's check and write, and fail.

The model knows who must win: the newest epoch commits, an older one is fenced, whatever its handle
has read. It knows nothing of how the owner finds that out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import strategies as st

from raylake import faults
from raylake.delta import log_files
from raylake.delta.owned_table import OwnedTable
from raylake.errors import DependencyUnreachable, Fenced
from raylake.ingest.unit import Unit, UnitOutcome
from tests.integration.delta.scope import P0, P1, Scope

ENDINGS = ("", "store refuses", "answer lost", "killed before", "killed after")
LANDED = ("", "answer lost", "killed after")


class Killed(BaseException):
    """The process is gone; nothing of it runs on."""


@dataclass(frozen=True)
class Turn:
    """One owner hands units over to itself.

    Attributes:
        owner: Which one; it attaches when it is not there.
        rows: One unit for each number: its rows, 0 for a unit of one dead letter.
        refreshed: Its handle reads the log first, and its units begin where the table ends.
        gap: Its first unit leaves an offset out, and must be refused.
        ending: What happens to its write.
        between: What others do between its check and its write.
    """

    owner: int
    rows: tuple[int, ...]
    refreshed: bool = False
    gap: bool = False
    ending: str = ""
    between: tuple[Turn, ...] = ()


def turns(owners: int, endings: tuple[str, ...] = ("",)) -> st.SearchStrategy[list[Turn]]:
    """Turns of that many owners; others come between in one of three."""
    who = st.integers(0, owners - 1)
    rows = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)
    ending = st.just("") | st.sampled_from(endings)
    flag = st.sampled_from([False, False, True])
    alone = st.builds(Turn, who, rows, flag, flag, ending)
    between = st.just(()) | st.just(()) | st.lists(alone, min_size=1, max_size=2).map(tuple)
    return st.lists(st.builds(Turn, who, rows, flag, flag, ending, between), min_size=1, max_size=8)


@dataclass
class Stage:
    """The table, its owners, and what must be in it.

    Attributes:
        landed: Paths of the data files of each version that holds some, by version.
        letters: Paths of the dead-letter files named by such a version.
        history: The coordinates of all rows of the table at such a version.
        at: Called at each named point of a commit.
        fired: How often each ending was met, and how often an owner was fenced.
    """

    scope: Scope
    durability: str = "none"
    owners: dict[int, OwnedTable] = field(default_factory=dict)
    newest: int = 0
    next: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    landed: dict[int, set[str]] = field(default_factory=dict)
    letters: dict[int, set[str]] = field(default_factory=dict)
    history: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    held: set[tuple[int, int]] = field(default_factory=set)
    at: Callable[[], None] = lambda: None
    fired: dict[str, int] = field(default_factory=dict)
    _under_way: list[Turn] = field(default_factory=list)

    @contextmanager
    def playing(self) -> Iterator[Stage]:
        """Inside, what a turn says happens at the named points."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(faults, "reach", self._reach)
            yield self

    def play(self, turn: Turn) -> None:
        """One turn; it must end as the model says."""
        if turn.owner in {one.owner for one in self._under_way}:
            return
        owner = self.owners.get(turn.owner) or self._attach(turn.owner)
        if turn.refreshed:
            owner._core.table.update_incremental()
        units = self._units(owner, turn)
        valid = units[1:] if turn.gap else units
        outcomes: list[UnitOutcome] = []
        was_newest = owner.epoch == self.newest
        self._under_way.append(turn)
        try:
            outcomes = self._commit(owner, units, turn)
        except Fenced:
            assert owner.epoch < self.newest, "the newest owner was fenced"
            self.count("fenced with a refreshed handle" if turn.refreshed else "fenced")
            if was_newest:
                self.count("overtaken")
            del self.owners[turn.owner]
            return
        except DependencyUnreachable:
            assert turn.ending == "store refuses"
        except Killed:
            del self.owners[turn.owner]
        finally:
            self._under_way.pop()
        wrote_nothing = turn.ending == "killed before" and not outcomes
        assert owner.epoch == self.newest or wrote_nothing, "an older owner committed"
        if valid:
            self.count(turn.ending)
            if turn.ending in LANDED:
                self._land(valid)
        if outcomes or not valid:
            statuses = ["refused"] * turn.gap + ["committed"] * len(valid)
            assert [one.status for one in outcomes] == statuses

    def count(self, what: str) -> None:
        self.fired[what] = self.fired.get(what, 0) + 1

    def _attach(self, number: int) -> OwnedTable:
        # Its own commits are not those that the turn it comes between speaks of.
        self._under_way.append(Turn(number, (), False, False, "", ()))
        try:
            owner = self.scope.attach(f"run-{number}", take_over=True, durability=self.durability)
            assert owner.epoch > self.newest
            self.newest = owner.epoch
            owner.admit({P0: 0, P1: 0})
        finally:
            self._under_way.pop()
        self.owners[number] = owner
        return owner

    def _units(self, owner: OwnedTable, turn: Turn) -> list[Unit]:
        known = {source.partition: state.next for source, state in owner.states().items()}
        at = dict(self.next) if turn.refreshed else known
        found = []
        for number, rows in enumerate(turn.rows):
            partition = number % 2
            start = at[partition] + (turn.gap and number == 0)
            if rows:
                found.append(self.scope.unit(owner, start, start + rows, partition))
            elif partition == 0:
                found.append(self.scope.dead_unit(owner, start, start + 1))
            else:
                found.append(self.scope.unit(owner, start, start + 1, partition))
            if not (turn.gap and number == 0):
                at[partition] = found[-1].ranges[0].end
        return found

    def _commit(self, owner: OwnedTable, units: list[Unit], turn: Turn) -> list[UnitOutcome]:
        core, table = owner._core, owner._core.table

        def write(*args: Any, **kwargs: Any) -> None:
            if turn.ending == "store refuses":
                raise OSError(28, "No space left on device")
            table.create_write_transaction(*args, **kwargs)
            if turn.ending == "answer lost":
                raise OSError("connection reset by peer")

        core.table = Handle(table, create_write_transaction=write)
        try:
            return owner.commit(units)
        finally:
            core.table = table

    def _reach(self, point: str, **_in_flight: Any) -> None:
        self.at()
        if not self._under_way:
            return
        turn = self._under_way[-1]
        if point == "owner.after_check":
            # A second attempt of the same turn meets nobody any more.
            self._under_way[-1] = dataclasses.replace(turn, between=())
            for other in turn.between:
                self.play(other)
            if turn.ending == "killed before":
                raise Killed
        elif point == "owner.after_commit" and turn.ending == "killed after":
            raise Killed

    def _land(self, units: list[Unit]) -> None:
        version = log_files.commit_versions(self.scope.path)[-1]
        self.landed[version] = {file.path for unit in units for file in unit.files}
        self.letters[version] = {f.path for unit in units for f in unit.dead_letter_files}
        for span in (span for unit in units for span in unit.ranges):
            place = span.source.partition
            assert span.start == self.next[place]
            self.next[place] = span.end
            if span.counts.rows:
                self.held |= {(place, offset) for offset in range(span.start, span.end)}
        self.history[version] = set(self.held)

    # -- what is on the disk, by plain tools

    def log(self) -> dict[int, list[dict[str, Any]]]:
        """The actions of every version."""
        folder = self.scope.path / "_delta_log"
        return {
            int(path.stem): [json.loads(line) for line in path.read_text().splitlines()]
            for path in sorted(folder.glob("*.json"))
        }

    def read(self, table: DeltaTable | None = None) -> set[tuple[int, int]]:
        """Coordinates of all rows of a handle, or of the newest version; none is there twice."""
        source = table if table is not None else str(self.scope.path)
        frame = pl.scan_delta(source).select("_partition", "_offset").collect()
        assert frame.n_unique() == frame.height, "a row is there twice"
        return set(frame.rows())


def files_of(actions: list[dict[str, Any]]) -> set[str]:
    """The data files that a version adds."""
    return {action["add"]["path"] for action in actions if "add" in action}


def txns_of(actions: list[dict[str, Any]]) -> dict[str, int]:
    """The txns that a version writes."""
    found = [action["txn"] for action in actions if "txn" in action]
    assert len({one["appId"] for one in found}) == len(found), "an app id is there twice"
    return {one["appId"]: one["version"] for one in found}


class Handle:
    """A handle with one method replaced."""

    def __init__(self, table: DeltaTable, **replaced: Any) -> None:
        self._table = table
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)
