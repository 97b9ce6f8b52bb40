"""What an audit found, as data and as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DAMAGES = ("lost", "duplicated", "phantom", "altered", "aborted_visible", "misplaced")
"""The fields of :class:`AuditReport` that must be zero."""


@dataclass(frozen=True)
class AuditReport:
    """What became of every record that the producer wrote down; all figures count records.

    Attributes:
        produced: Records in the producer's record, aborted ones included.
        aborted: Records of aborted transactions among them.
        rows: Rows of the table's live files, copies included.
        dead_letters: Rows of the dead-letter table, copies included, markers of loss excluded.
        tombstones: Rows without a value.
        lost: Committed records that are in neither table.
        duplicated: Records that are seen more than once, in one table or in both.
        phantom: Coordinates that are seen and were never produced.
        altered: Records of which a copy has other value bytes than those produced.
        aborted_visible: Records of aborted transactions that are seen.
        misplaced: Records seen once, but as a row instead of a dead letter or the other way round.
        values_compared: False when the table keeps no value bytes and that was allowed.
        loss_markers: Rows of stage ``lost`` in the dead-letter table: ranges that Kafka had not.
        table_version: The version of the table that was read.
        table_files: Its live files.
        examples: Up to five ``topic[partition]@offset: what`` for each damage found.
        seconds: How long the audit took.
    """

    produced: int
    aborted: int
    rows: int
    dead_letters: int
    tombstones: int
    lost: int
    duplicated: int
    phantom: int
    altered: int
    aborted_visible: int
    misplaced: int
    values_compared: bool
    loss_markers: int
    table_version: int
    table_files: int
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def balanced(self) -> bool:
        """Whether every record has the fate that it must have, and there was a record."""
        clean = not any(getattr(self, damage) for damage in DAMAGES)
        return clean and self.produced > 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, with ``balanced``."""
        return {"balanced": self.balanced, **dataclasses.asdict(self)}

    def to_text(self) -> str:
        """Lines for people."""
        lines = [
            f"produced        {self.produced:>12,}",
            f"in the table    {self.rows:>12,}   ({self.tombstones:,} tombstones)",
            f"dead letters    {self.dead_letters:>12,}",
            f"aborted         {self.aborted:>12,}",
        ]
        lines += [f"{name:<16}{getattr(self, name):>12,}" for name in DAMAGES]
        for damage, places in self.examples.items():
            lines += [f"  {damage}: {place}" for place in places]
        if not self.values_compared:
            lines.append("values were not compared: the table keeps none")
        lines.append("the books balance" if self.balanced else "THE BOOKS DO NOT BALANCE")
        return "\n".join(lines)


@dataclass(frozen=True)
class Compared:
    """A derived table beside the same table computed anew.

    Attributes:
        rows: Rows that it has.
        expected: Rows that it must have.
        missing: Of these, those that it has not; of equal rows each counts.
        unexpected: Rows that it has and must not have; an altered row is missing and unexpected.
        examples: Up to five of each.
    """

    rows: int
    expected: int
    missing: int
    unexpected: int
    examples: Sequence[str] = ()

    @property
    def same(self) -> bool:
        """Whether it is what it must be."""
        return not self.missing and not self.unexpected


@dataclass(frozen=True)
class DerivedReport:
    """What an audit of silver and gold found.

    Attributes:
        silver: Its rows, with the record that each of them is of.
        gold: Its groups.
        quarantine: What silver turned away: coordinates, rule and failing value.
        unlike_notes: Coordinates that are in the quarantine and not among the rows that producers
            say they spoiled, or the other way round.
        by_rule: Rows in the quarantine by rule.
        orders: Gold's orders, over all groups.
        revenue: Gold's revenue, likewise; a decimal number.
        digest: Of silver's rows without times and coordinates: equal for equal seeds and counts.
        engines: Table to engine to the number of steps that it committed.
        seconds: How long the audit took.
    """

    silver: Compared
    gold: Compared
    quarantine: Compared
    unlike_notes: int
    by_rule: Mapping[str, int]
    orders: int
    revenue: str
    digest: str
    engines: Mapping[str, Mapping[str, int]]
    seconds: float = 0.0

    @property
    def same(self) -> bool:
        """Whether all three are what they must be, and there was something to compare."""
        alike = all(one.same for one in (self.silver, self.gold, self.quarantine))
        return alike and not self.unlike_notes and self.silver.rows > 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, with ``same``."""
        return {"same": self.same, **dataclasses.asdict(self)}

    def to_text(self) -> str:
        """Lines for people."""
        lines = [
            _line("silver", self.silver, f"digest {self.digest}"),
            _line("gold", self.gold, f"{self.orders:,} orders, revenue {self.revenue}"),
            _line("quarantine", self.quarantine, _counts(self.by_rule)),
        ]
        if self.unlike_notes:
            lines.append(f"{'':<11}{self.unlike_notes:,} UNLIKE THE PRODUCERS' NOTES")
        for one in (self.silver, self.gold, self.quarantine):
            lines += [f"  {text}" for text in one.examples]
        return "\n".join(lines)


def _line(name: str, one: Compared, more: str) -> str:
    said = "computed anew the same"
    if not one.same:
        said = f"{one.missing:,} MISSING, {one.unexpected:,} NOT EXPECTED"
    return f"{name:<11}{one.rows:>12,} rows, {said}; {more}"


def _counts(by_name: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in by_name.items())
