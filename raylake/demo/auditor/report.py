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
