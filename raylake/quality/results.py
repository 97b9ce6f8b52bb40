"""What a check found, as plain data that travels in a commit's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SAMPLE_VALUES: Final = 5
SAMPLE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule, or one of the seven categories, in one step.

    Attributes:
        rule: The rule's name; of a category that was checked without a rule: its name.
        category: One of :data:`raylake.quality.categories.CATEGORIES`.
        severity: ``error``, ``warning`` or ``info``.
        on_failure: ``continue``, ``quarantine`` or ``abort``.
        rows: Rows that were judged.
        failed: Those that break it; of freshness 1 where the table is stale.
        values: The first five failing values as text.
        message: What was found, in plain words.
        recommendation: What to do; empty where it passed.
        figure: What was measured, where that is no count of rows.
        threshold: What the figure is held against; None: nothing yet.
        measures: Of a category: what it measured by column, from which thresholds come.
        by_rule: Whether a written rule was judged.
    """

    rule: str
    category: str
    severity: str
    on_failure: str
    rows: int
    failed: int
    values: tuple[str, ...] = ()
    message: str = ""
    recommendation: str = ""
    figure: float | None = None
    threshold: float | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    by_rule: bool = True

    @property
    def passed(self) -> bool:
        """Whether nothing breaks it."""
        return self.failed == 0

    @property
    def share(self) -> float:
        """The part of the rows that break it, 0 to 1."""
        return min(1.0, self.failed / self.rows) if self.rows else float(self.failed > 0)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "rule": self.rule,
            "category": self.category,
            "severity": self.severity,
            "on_failure": self.on_failure,
            "rows": self.rows,
            "failed": self.failed,
            "values": list(self.values),
            "message": self.message,
            "recommendation": self.recommendation,
            "figure": self.figure,
            "threshold": self.threshold,
            "measures": dict(self.measures),
            "by_rule": self.by_rule,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RuleResult:
        """A result read back; what a newer release may have added is passed over."""
        known = {name: data[name] for name in cls.__slots__ if name in data}
        return cls(**{**known, "values": tuple(known.get("values", ()))})


def clipped(text: str) -> str:
    """A value's text for messages and metadata: bounded, its control characters escaped."""
    some = text[:SAMPLE_CHARACTERS]
    shown = some if some.isprintable() else "".join(map(_printable, some))
    return shown if len(text) <= SAMPLE_CHARACTERS else f"{shown}…"


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
