"""Walks the retained commits of a table and checks that each follows from the one before.

The ledger in the txns proves the totals; the commits tell where they come from. What clean-up took
away is not missed: the walk starts at the first retained commit and knows only what it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from raylake.delta.ledger import EPOCH_BITS, OWNER_APP, app_id, owner_epoch, parse_app_id
from raylake.delta.log_reader import Commit
from raylake.delta.metadata import file_from_json, range_from_json
from raylake.delta.pending import Replacement, Withdrawn, withdrawal_of
from raylake.delta.verify_model import DIFFERENCE, NOTICE, Finding, FindingList
from raylake.errors import LogDamaged
from raylake.ingest.unit import DataFile, OffsetRange, SourcePartition

_TAKES: Mapping[object, str] = {"rewind": "rows_found", "rewrite": "rows"}
"""Kinds of commits that may take rows away, and where they say how many."""
_COUNTS = ("rows", "dead", "absent", "lost", "dropped")
_STOP = "stop every writer of this table; find out what wrote this version, then restore or rewind"


@dataclass(frozen=True, slots=True)
class NamedLetters:
    """What one data commit says of dead letters.

    Attributes:
        version: The commit's version.
        files: The files that it names.
        dead: Dead letters by partition, from its ranges.
    """

    version: int
    files: tuple[DataFile, ...]
    dead: Mapping[SourcePartition, int]


@dataclass(slots=True)
class History:
    """What the walk learned.

    Attributes:
        first: The first version walked; None when nothing is retained.
        last: The last one.
        ours: Number of commits of ours.
        foreign: Number of commits by somebody else.
        values: The last value of each app id that was seen.
        letters: Commits that name dead letters, in order.
        withdrawn: Rewinds and replays, from which dead letters leave: version and which, in order.
    """

    first: int | None = None
    last: int | None = None
    ours: int = 0
    foreign: int = 0
    values: dict[str, int] = field(default_factory=dict)
    letters: list[NamedLetters] = field(default_factory=list)
    withdrawn: list[tuple[int, Withdrawn]] = field(default_factory=list)


class HistoryWalk:
    """Checks commits one by one.

    Args:
        findings: Where differences go.
    """

    def __init__(self, findings: FindingList) -> None:
        self.history = History()
        self._findings = findings
        self._rows: dict[str, int | None] = {}

    def run(self, commits: Iterable[Commit]) -> History:
        """Walk all of them; a damaged one is a finding and ends the walk."""
        try:
            for commit in commits:
                self.step(commit)
        except LogDamaged as error:
            where = str(error.context.get("file", ""))
            self._findings.add(
                Finding("log_damaged", where, "a whole commit file", error.message, error.hint)
            )
        return self.history

    def step(self, commit: Commit) -> None:
        """Check one commit against what was seen before it."""
        history = self.history
        if history.first is None:
            history.first = commit.version
        history.last = commit.version
        self._check_owner(commit)
        ranges = _ranges(commit)
        self._check_ranges(commit, ranges)
        self._check_rewound(commit)
        self._check_moved(commit)
        self._check_files(commit, ranges)
        history.values.update(commit.txns)
        files = (commit.raylake or {}).get("dead_letters") or ()
        dead = {r.source: r.counts.dead for r, _ in ranges if r.counts.dead}
        if files and (commit.raylake or {}).get("kind") == "data":
            named = tuple(file_from_json(f) for f in files)
            history.letters.append(NamedLetters(commit.version, named, dead))
        if withdrawal := withdrawal_of(commit.raylake or {}):
            if isinstance(withdrawal, Replacement):
                history.letters.append(NamedLetters(commit.version, withdrawal.files, {}))
            history.withdrawn.append((commit.version, withdrawal))

    def compare(self, txns: Mapping[str, int]) -> None:
        """Check that the table's txns are what the commits walked lead to."""
        history = self.history
        for app, value in history.values.items():
            if app.startswith("raylake/") and txns.get(app) != value:
                self._add("final_state", app, f"{value}, by the commits", f"{txns.get(app)}")
        if history.first == 0:
            for app in sorted(set(txns) - set(history.values)):
                if app.startswith("raylake/"):
                    self._add("final_state", app, "no value: no commit set it", f"{txns[app]}")

    def _add(self, kind: str, where: str, expected: str, found: str) -> None:
        self._findings.add(Finding(kind, where, expected, found, _STOP, DIFFERENCE))

    def _check_owner(self, commit: Commit) -> None:
        number = commit.txns.get(OWNER_APP)
        ours = commit.raylake
        where = f"version {commit.version}"
        if ours is None:
            self._foreign(commit)
            return
        self.history.ours += 1
        claimed = ours.get("owner")
        if number is None and ours.get("kind") == "create":
            return
        if number != claimed:
            self._add("commit_torn", where, f"owner number {_number(claimed)}", _number(number))
        if number is None:
            return
        before = self.history.values.get(OWNER_APP)
        if before is None:
            return
        fresh_epoch = (owner_epoch(before) + 1) << EPOCH_BITS
        if number not in (before + 1, fresh_epoch):
            expected = f"{_number(before + 1)}, or {_number(fresh_epoch)}"
            self._add("owner_number", where, expected, _number(number))

    def _foreign(self, commit: Commit) -> None:
        self.history.foreign += 1
        info = commit.info
        touched = sorted(a for a in commit.txns if a == OWNER_APP or parse_app_id(a))
        adds = sum(1 for a in commit.adds() if a.get("dataChange", True))
        removes = sum(1 for r in commit.removes() if r.get("dataChange", True))
        what = (
            f"{info.get('operation', 'unknown operation')} by {info.get('engineInfo', 'unknown')}"
        )
        changes = f"{what}: {adds} files added, {removes} removed"
        if touched:
            changes += f", and it set {', '.join(touched[:3])}"
        self._findings.add(
            Finding(
                "foreign_commit",
                f"version {commit.version}",
                "a commit of the table's owner",
                changes,
                _STOP if touched else "harmless as long as the account balances",
                DIFFERENCE if touched else NOTICE,
            )
        )

    def _check_ranges(self, commit: Commit, ranges: list[tuple[OffsetRange, str]]) -> None:
        values = self.history.values
        covered: set[str] = set()
        for one, pipeline in ranges:
            where = f"version {commit.version}, {one.source}"
            at = app_id(pipeline, one.source, "next")
            covered.add(at)
            before = values.get(at)
            if before is not None and before != one.start:
                self._add("chain", where, f"a range from {before}", f"[{one.start}, {one.end})")
            if commit.txns.get(at, before) not in (one.end, None):
                self._add("chain", where, f"next {one.end}", f"next {commit.txns.get(at, before)}")
            if at not in commit.txns and one.end > one.start:
                self._add("commit_torn", where, f"the txn next {one.end}", "no such txn")
            self._check_counts(commit, one, pipeline)
        if (commit.raylake or {}).get("kind") != "data":
            return
        for app in commit.txns:
            found = parse_app_id(app)
            if found and found.name == "next" and app not in covered:
                where = f"version {commit.version}, {found.source}"
                self._add("chain", where, "a range in the commit", f"next {commit.txns[app]} alone")

    def _check_counts(self, commit: Commit, one: OffsetRange, pipeline: str) -> None:
        values = self.history.values
        known = self.history.first == 0
        for name in _COUNTS:
            app = app_id(pipeline, one.source, name)
            before = values.get(app, 0 if known else None)
            if before is None:
                continue
            after = commit.txns.get(app, before)
            wanted = before + int(getattr(one.counts, name))
            if after != wanted:
                where = f"version {commit.version}, {one.source}"
                self._add("chain", where, f"{name} {wanted}", f"{name} {after}")

    def _check_rewound(self, commit: Commit) -> None:
        """A rewind's own words against the txns that it lowers."""
        values, covered = self.history.values, set()
        for one in _rewound(commit):
            source = SourcePartition(one["topic"], one["topic_id"], int(one["partition"]))
            where = f"version {commit.version}, {source}"
            at = app_id(str(one["pipeline"]), source, "next")
            covered.add(at)
            if values.get(at, one["from"]) != one["from"]:
                self._add("chain", where, f"a rewind from {values[at]}", f"one from {one['from']}")
            if commit.txns.get(at) != one["to"]:
                self._add("chain", where, f"next {one['to']}", f"next {commit.txns.get(at)}")
            for name in _COUNTS:
                app = app_id(str(one["pipeline"]), source, name)
                before = values.get(app, 0 if self.history.first == 0 else None)
                after = commit.txns.get(app, before)
                if before is not None and after != before - int(one[name]):
                    self._add(
                        "chain", where, f"{name} {before - int(one[name])}", f"{name} {after}"
                    )
        if (commit.raylake or {}).get("kind") == "rewind":
            for app in commit.txns:
                if app.endswith("/next") and parse_app_id(app) and app not in covered:
                    where = f"version {commit.version}, {app}"
                    self._add("chain", where, "a rewind of it in the commit", "its next alone")

    def _check_moved(self, commit: Commit) -> None:
        """Rows that a rewrite took are dropped ones, letters that a replay took are rows."""
        values = self.history.values
        for one in (*_taken(commit), *_replayed(commit)):
            source = SourcePartition(one["topic"], one["topic_id"], int(one["partition"]))
            rows, where = int(one["rows"]), f"version {commit.version}, {source}"
            replayed = (commit.raylake or {}).get("kind") == "replay"
            moves = {"rows": rows, "dead": -rows} if replayed else {"rows": -rows, "dropped": rows}
            # Commits from before they were told do not have them.
            first, last = one.get("first", 0), one.get("last", rows - 1)
            if last - first + 1 < rows:
                self._add("chain", where, f"{rows} rows within", f"[{first}, {last}]")
            for name in ("next", *_COUNTS):
                app = app_id(str(one["pipeline"]), source, name)
                before = values.get(app, 0 if self.history.first == 0 else None)
                after = commit.txns.get(app, before)
                if before is not None and after != before + moves.get(name, 0):
                    wanted = before + moves.get(name, 0)
                    self._add("chain", where, f"{name} {wanted}", f"{name} {after}")

    def _check_files(self, commit: Commit, ranges: list[tuple[OffsetRange, str]]) -> None:
        where = f"version {commit.version}"
        removed = [r["path"] for r in commit.removes()]
        taken = [self._rows.pop(path, None) for path in removed]
        added: list[int | None] = []
        changes = False
        for add in commit.adds():
            path, rows = add["path"], _rows(add)
            changes = changes or add.get("dataChange", True)
            if path in self._rows and add.get("dataChange", True):
                self._add("duplicate_file", f"{where}, {path}", "added once", "added while live")
            self._rows[path] = rows
            added.append(rows)
        if commit.raylake is None or None in added:
            return
        total = sum(rows or 0 for rows in added)
        if commit.raylake.get("kind") in ("data", "replay"):
            counted = sum(r.counts.rows for r, _ in ranges)
            counted += sum(int(one["rows"]) for one in _replayed(commit))
            if total != counted:
                self._add("commit_rows", where, f"{counted} rows, by its ranges", f"{total}")
        elif None not in taken:
            left = sum(rows or 0 for rows in taken) - total
            self._check_left(commit, left, rewritten=bool(removed and added) and not changes)

    def _check_left(self, commit: Commit, left: int, *, rewritten: bool) -> None:
        """The rows that a commit took away against its own words."""
        where, kind = f"version {commit.version}", (commit.raylake or {}).get("kind")
        if kind in _TAKES:
            counted = sum(int(one[_TAKES[kind]]) for one in (*_rewound(commit), *_taken(commit)))
            if left != counted:
                self._add("commit_rows", where, f"{counted} rows taken away", f"{left}")
        elif rewritten and left:
            self._add("commit_rows", where, "as many rows as were rewritten", f"{left} fewer")


def _ranges(commit: Commit) -> list[tuple[OffsetRange, str]]:
    found = (commit.raylake or {}).get("ranges") or ()
    return [(range_from_json(r), str(r["pipeline"])) for r in found]


def _rewound(commit: Commit) -> Sequence[Mapping[str, Any]]:
    return (commit.raylake or {}).get("rewound") or ()


def _taken(commit: Commit) -> Sequence[Mapping[str, Any]]:
    return (commit.raylake or {}).get("taken") or ()


def _replayed(commit: Commit) -> Sequence[Mapping[str, Any]]:
    return ((commit.raylake or {}).get("replay") or {}).get("partitions") or ()


def _rows(add: Mapping[str, Any]) -> int | None:
    try:
        rows = orjson.loads(add.get("stats") or "{}").get("numRecords")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return rows if isinstance(rows, int) else None


def _number(value: object) -> str:
    if not isinstance(value, int):
        return "none"
    return f"epoch {owner_epoch(value)} number {value & ((1 << EPOCH_BITS) - 1)}"
