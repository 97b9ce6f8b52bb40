"""The account of a pipeline as a notebook shows it: every offset, and where it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from raylake.client.shown import html_table, printable, rich_table
from raylake.delta.verify_model import Finding, PipelineReport
from raylake.ingest.unit import partition_names
from raylake.storage.place import place

_COUNTS: Final = ("origin", "next", "offsets", "rows", "dead", "absent", "lost", "dropped")
_COLUMNS: Final = ("table", "partition", *_COUNTS, "")


@dataclass(frozen=True, slots=True)
class Account:
    """What ``verify`` found.

    Attributes:
        report: All of it.
    """

    report: PipelineReport

    @property
    def ok(self) -> bool:
        """Whether the books balance."""
        return self.report.ok

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Differences and notices."""
        return self.report.all_findings()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``raylake verify -o json``."""
        return self.report.to_dict()

    @property
    def line(self) -> str:
        """The verdict in one line."""
        report = self.report
        if not self.ok:
            return f"{report.pipeline}: DIFFERENCE: the books don't balance (level {report.level})"
        return f"{report.pipeline}: ok: every offset is accounted for (level {report.level})"

    def notes(self) -> list[str]:
        """Dead letters, and each finding with what to do."""
        letters = self.report.dead_letters
        said = [f"dead letters: {letters.stored:,} in the table"]
        for one in self.findings:
            told = f"{one.severity}: {one.kind} at {one.where}: expected {one.expected}"
            said.append(f"{told}, found {one.found}" + (f"; {one.hint}" if one.hint else ""))
        return [printable(one, 1000) for one in said]

    def __repr__(self) -> str:
        counts = self.report.totals
        sums = f"{counts.rows:,} rows, {counts.dead:,} dead letters, {counts.lost:,} lost"
        return "\n".join([f"{self.line}: {sums}", *self.notes()])

    def __rich__(self) -> Group:
        """The account for a terminal."""
        notes = [Text(one) for one in self.notes()]
        return Group(rich_table(self.line, _COLUMNS, self._rows()), *notes)

    def _repr_html_(self) -> str:
        return html_table(self.line, _COLUMNS, self._rows(), " · ".join(self.notes()))

    def _rows(self) -> list[list[Any]]:
        rows = []
        for table in self.report.tables:
            names = partition_names(one.source for one in table.partitions)
            for one in table.partitions:
                values = one.to_dict()
                mark = "=" if one.balanced else "DIFFERS"
                counted = [f"{values[name]:,}" for name in _COUNTS]
                rows.append([place(table.table).name, names[one.source], *counted, mark])
        return rows
