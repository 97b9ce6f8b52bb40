"""How a run stands: one value that a terminal, a notebook and a program can read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from raylake.client.shown import html_table, printable, rich_table

COUNTS: Final = ("rows", "dead", "absent", "lost", "dropped")
OVER: Final = ("done", "stopped", "failed", "dead", "interrupted")
"""States after which nothing more happens by itself."""
_COLUMNS: Final = ("table", "state", "rows", "dead letters", "absent", "lag", "version", "last")


def lag(table: Mapping[str, Any]) -> int:
    """Offsets between what is committed and the end of what is known, over the partitions."""
    ends = [
        (p.get("target") if p.get("end") is None else p.get("end"), p["next"])
        for p in table.get("partitions", {}).values()
    ]
    return sum(max(0, int(end) - int(at)) for end, at in ends if end is not None)


def totals(document: Mapping[str, Any]) -> dict[str, int]:
    """The sums over all tables, with ``commits`` and ``lag`` (offsets; of one table each)."""
    tables = list(document.get("tables", {}).values())
    found = {name: sum(int(t.get("totals", {}).get(name, 0)) for t in tables) for name in COUNTS}
    found["commits"] = sum(int(t.get("commits", 0)) for t in tables)
    found["lag"] = sum(lag(t) for t in tables)
    return found


def moment(at_s: float) -> str:
    """A time of day in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_s))


@dataclass(frozen=True, slots=True)
class RunView:
    """How a run stood when it was looked at.

    Attributes:
        pipeline: The pipeline.
        run_id: The run.
        state: ``submitted`` (nothing was heard of it yet), ``starting``, ``running``,
            ``draining``, ``restarting``, ``done``, ``stopped``, ``failed``, ``interrupted``, or
            ``dead``: its process is gone without a word.
        where: Where it runs, in words.
        age_s: Seconds since it wrote its status; None: it has not.
        document: Its status document (DESIGN §9); empty: there is none yet.
        error: Why it failed: ``code``, ``message``, ``hint``; empty: it did not.
    """

    pipeline: str
    run_id: str
    state: str
    where: str
    age_s: float | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.state in OVER

    @property
    def rows(self) -> int:
        """Rows of all bronze tables, as their ledgers count them."""
        return totals(self.document)["rows"]

    @property
    def dead_letters(self) -> int:
        """Dead letters of all tables."""
        return totals(self.document)["dead"]

    @property
    def lag(self) -> int:
        """Offsets that are known and not committed yet."""
        return totals(self.document)["lag"]

    @property
    def restarts(self) -> int:
        """How often the run was started again after failures."""
        return int((_job(self.document).get("restarts") or {}).get("count", 0))

    @property
    def caught_up(self) -> bool:
        """Whether all was committed that the broker had when the run last looked at it.

        A run looks every five seconds.
        """
        tables = self.document.get("tables", {}).values()
        parts = [part for table in tables for part in table.get("partitions", {}).values()]
        known = bool(tables) and all("partitions" in table for table in tables)
        reached = all(
            part.get("end") is not None and int(part["next"]) >= int(part["end"]) for part in parts
        )
        return known and reached and bool(parts) and not self.document.get("waiting")

    @property
    def line(self) -> str:
        """The run in one line."""
        said = f"{self.pipeline}: {self.state} (run {self.run_id}, {self.where})"
        if "totals" in next(iter(self.document.get("tables", {}).values()), {}):
            said += f", {self.rows:,} rows, {self.dead_letters:,} dead letters, lag {self.lag:,}"
        return printable(said, 1000)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "pipeline": self.pipeline,
            "run_id": self.run_id,
            "state": self.state,
            "where": self.where,
            "age_s": self.age_s,
            "error": dict(self.error),
            "status": dict(self.document),
        }

    def notes(self) -> list[str]:
        """What is not as it should be, a line each."""
        found = [f"{name} waits: {why}" for name, why in self.document.get("waiting", {}).items()]
        stopped = self.document.get("stopped", {})
        found += [f"{source} is stopped: {why['message']}" for source, why in stopped.items()]
        again = _job(self.document).get("restarts") or {}
        if again.get("count"):
            said = (again.get("last") or {}).get("message", "")
            found.append(f"started again {again['count']} of {again['limit']} times: {said}")
        if self.error:
            found.append(f"error: {self.error.get('message')}")
            found += [f"hint: {self.error['hint']}"] if self.error.get("hint") else []
        return [printable(one, 1000) for one in found]

    def __repr__(self) -> str:
        return "\n".join([self.line, *self.notes()])

    def __rich__(self) -> Group:
        """The run, its tables and its troubles, for a terminal."""
        notes = [Text(one, style="yellow") for one in self.notes()]
        return Group(Text(self.line, style="bold"), rich_table("", _COLUMNS, self._rows()), *notes)

    def _repr_html_(self) -> str:
        return html_table(self.line, _COLUMNS, self._rows(), " · ".join(self.notes()))

    def _rows(self) -> list[list[Any]]:
        rows = []
        for name, one in self.document.get("tables", {}).items():
            counts = one.get("totals", {})
            last = one.get("last_commit_at")
            kept = [f"{int(counts[key]):,}" if key in counts else "" for key in COUNTS[:3]]
            behind = f"{lag(one):,}" if "partitions" in one else ""
            at = moment(last) if last else ""
            rows.append([name, one.get("state", ""), *kept, behind, one.get("version"), at])
        return rows


def _job(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document.get("job") or {}
    return found
