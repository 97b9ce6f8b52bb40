"""What a run of the demo saw, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from raylake.tables.routing import SPARK


@dataclass(slots=True)
class DemoResult:
    """What the demo saw.

    Attributes:
        lake: Its folder.
        seconds: How long each part took. ``bronze`` is the part of ``run`` until the last record
            was committed.
        kills: Each kill in plain words.
        verify: By level, whether ``raylake verify`` finds bronze in order.
        audit: What the auditor says of bronze.
        derived: What it says of silver, gold and quarantine.
        commits: Of bronze.
        files: Of bronze, those that are live and those that are not.
        rate_per_s: Records into bronze a second, while silver and gold follow.
        problems: What is wrong, in words.
    """

    lake: str
    seconds: dict[str, float] = field(default_factory=dict)
    kills: list[str] = field(default_factory=list)
    verify: dict[str, bool] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, Any] = field(default_factory=dict)
    commits: int = 0
    files: int = 0
    rate_per_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: the books of all layers balance and every kill hit; 3: they don't; 1: otherwise."""
        books = (self.audit.get("balanced"), self.derived.get("same"), *self.verify.values())
        if not all(books):
            return 3
        return 1 if self.problems else 0


def found_wrong(audit: Mapping[str, Any], derived: Mapping[str, Any], engine: str) -> Iterator[str]:
    """What an audit found, in words.

    Args:
        audit: Of bronze.
        derived: Of silver and gold.
        engine: Who was to write these.
    """
    if not audit["balanced"]:
        yield "the auditor: the books don't balance"
    for name in ("silver", "gold", "quarantine"):
        one = derived[name]
        if one["missing"] or one["unexpected"]:
            yield (
                f"{name}: computed anew it has {one['expected']:,} rows: {one['missing']:,} of "
                f"them are not there, {one['unexpected']:,} rows are not to be there"
            )
            yield from (f"{name}: {example}" for example in one["examples"])
    if derived["unlike_notes"]:
        yield (
            f"quarantine: {derived['unlike_notes']:,} rows are not those that the producers spoiled"
        )
    for table, engines in derived["engines"].items():
        if engine == SPARK and set(engines) != {SPARK}:
            yield f"{table}: Spark was to write it, and its log says {dict(engines)}"


def lines(result: DemoResult, restarts: Mapping[str, int]) -> Iterator[str]:
    """The account, for people.

    Args:
        result: What the demo saw.
        restarts: Processes of ingestion that were started again, by what they are.
    """
    audit, derived = result.audit, result.derived
    verified = ", ".join(f"{k} {'ok' if v else 'DIFFERS'}" for k, v in result.verify.items())
    yield f"\nbronze     {verified}"
    for name in ("produced", "rows", "dead_letters", "aborted", "lost", "duplicated"):
        shown = "in the table" if name == "rows" else name.replace("_", " ")
        yield f"           {shown:<14}{audit.get(name, 0):>12,}"
    more = {
        "silver": f"digest {derived['digest']}",
        "gold": f"{derived['orders']:,} orders, revenue {derived['revenue']}",
        "quarantine": ", ".join(f"{k} {v:,}" for k, v in derived["by_rule"].items()),
    }
    for name, said in more.items():
        one = derived[name]
        verdict = "DIFFERENT" if one["missing"] or one["unexpected"] else "the same"
        yield f"{name:<11}{one['rows']:,} rows, computed anew {verdict}; {said}"
    for table, engines in derived["engines"].items():
        steps = ", ".join(f"{count} by {name}" for name, count in engines.items())
        yield f"           {table}: steps that wrote: {steps}"
    yield (
        f"rate       {result.rate_per_s:,.0f} records/s into bronze through {len(result.kills)} "
        f"kills, start-up included; {result.commits} commits, {result.files} files"
    )
    yield "time       " + ", ".join(f"{name} {s:.0f} s" for name, s in result.seconds.items())
    yield f"restarts   {restarts}"
    yield from (f"PROBLEM    {problem}" for problem in result.problems)
    if not result.problems:
        yield "           every offset is accounted for, exactly once, and so is what follows"
