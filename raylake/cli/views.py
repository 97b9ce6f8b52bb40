"""Status documents as people read them; used by ``run``, ``status`` and ``stop``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raylake.cli.output import printable
from raylake.client.run_view import lag, moment, totals


def consumers(document: Mapping[str, Any]) -> str:
    """How many consumers, by state."""
    states: dict[str, int] = {}
    for consumer in document.get("consumers", {}).values():
        states[str(consumer.get("state"))] = states.get(str(consumer.get("state")), 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"


def scaling(document: Mapping[str, Any]) -> str:
    """Between which numbers it is, and why it changed last; empty where it is fixed."""
    found = document.get("scaling")
    if not found:
        return ""
    wanted = f", {found['wanted']} wanted" if found["wanted"] != found["running"] else ""
    why = f"; {found['why']}, at {moment(found['changed_at'])}" if found["why"] else ""
    return printable(f" ({found['min']} to {found['max']}{wanted}{why})", 1000)


class Rate:
    """Rows a second between the documents that it is shown, smoothed over some seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def of(self, document: Mapping[str, Any]) -> float:
        """The rate, with this document taken in."""
        at, rows = float(document["at"]), totals(document)["rows"]
        if not self._seen or at > self._seen[-1][0]:
            self._seen.append((at, rows))
        del self._seen[:-6]
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0


def progress_line(document: Mapping[str, Any], rate: float) -> str:
    """One quiet line of a run under way."""
    return f"{summary(document)}, {rate:,.0f} rows/s, consumers {consumers(document)}"


def summary(document: Mapping[str, Any]) -> str:
    """The state and the sums over all tables; rows and dead letters are the tables' own totals."""
    sums = totals(document)
    said = [
        f"{document['state']}: {sums['rows']:,} rows",
        f"{sums['dead']:,} dead letters",
        f"{sums['commits']:,} {'commit' if sums['commits'] == 1 else 'commits'}",
        f"lag {sums['lag']:,}",
    ]
    return ", ".join(said)


def progress(document: Mapping[str, Any], rate: float) -> RenderableType:
    """The picture of a run under way."""
    head = Text(progress_line(document, rate))
    parts: list[RenderableType] = [head, tables_table(document)]
    return Group(*parts, *troubles(document))


def tables_table(document: Mapping[str, Any]) -> Table:
    """A row per table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for name in ("rows", "dead letters", "absent", "lag", "commits", "version"):
        table.add_column(name, justify="right")
    table.add_column("last commit")
    for name, one in document.get("tables", {}).items():
        counts = one.get("totals", {})
        table.add_row(
            printable(name),
            *(f"{int(counts.get(key, 0)):,}" for key in ("rows", "dead", "absent")),
            f"{lag(one):,}",
            f"{int(one.get('commits', 0)):,}",
            str(one.get("version", "")),
            moment(one["last_commit_at"]) if one.get("last_commit_at") else "none in this run",
        )
    return table


def troubles(document: Mapping[str, Any]) -> list[RenderableType]:
    """What is not as it should be, a line each; empty when all is well."""
    lines = []
    for name, table in document.get("tables", {}).items():
        lines += [f"{name}: {b}" for b in _breakers(table.get("breakers", {}))]
        lines += [f"{name}: {table['error']}"] if table.get("error") else []
    for name, consumer in document.get("consumers", {}).items():
        lines += [f"{name}: {b}" for b in _breakers(consumer.get("breakers", {}))]
        lines += [f"{name}: {consumer['error']}"] if consumer.get("error") else []
    for name, held in document.get("held", {}).items():
        lines.append(f"breaker {name} is held open by hand: {held.get('reason', '')}")
    lines += [f"{name} waits: {why}" for name, why in document.get("waiting", {}).items()]
    stopped = document.get("stopped", {})
    lines += [f"{source} is stopped: {why['message']}" for source, why in stopped.items()]
    lines += sorted({f"hint: {why['hint']}" for why in stopped.values() if why.get("hint")})
    restarts = {k: n for k, n in document.get("restarts", {}).items() if n}
    if restarts:
        lines.append("replaced: " + ", ".join(f"{n} {k}" for k, n in restarts.items()))
    error = document.get("error")
    if error:
        lines.append(f"error: {error.get('message')}")
        lines += [f"hint: {error['hint']}"] if error.get("hint") else []
    return [Text(printable(line, 1000), style="yellow") for line in lines]


def _breakers(breakers: Mapping[str, Any]) -> list[str]:
    found = []
    for name, breaker in breakers.items():
        if isinstance(breaker, Mapping) and breaker.get("state") != "closed":
            found.append(f"breaker {name} is {breaker.get('state')}: {breaker.get('reason', '')}")
    return found


def committed_last(document: Mapping[str, Any]) -> list[str]:
    """What was committed last, per table and partition."""
    lines = []
    for name, table in document.get("tables", {}).items():
        if table.get("version") is None:
            lines.append(f"{printable(name)}: no owner said what it holds")
            continue
        at_s = table.get("last_commit_at")
        said = f"last commit {moment(at_s)}" if at_s else "no commit in this run"
        lines.append(f"{printable(name)}: version {table['version']}, {said}")
        for source, end in table.get("partitions", {}).items():
            lines.append(f"  {printable(source)}: committed up to offset {end['next']:,}")
    return lines


def span(seconds: float) -> str:
    """A length of time in its two greatest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
