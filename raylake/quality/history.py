"""The history of quality: ``<lake>/_quality/<pipeline>``, a row for each rule and category a step.

A step puts :func:`entry` into its commit's metadata under ``quality``; afterwards the rows are
added (:func:`follow_up`, see :mod:`raylake.quality.side_table`). What is found without a commit is
recorded by :func:`record`: that a rule aborted a step, and that a table has grown stale.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
from sqlglot import exp

from raylake import faults
from raylake.client.shown import Listing
from raylake.clock import Clock
from raylake.delta.files import WriteOptions, write_data_files
from raylake.ingest.unit import DataFile
from raylake.layers.derived import Span
from raylake.quality.past import KEPT_RESULTS, Past
from raylake.quality.results import RuleResult
from raylake.quality.side_table import Addition, Named, SideTable, Target, add, create, position
from raylake.quality.side_table import follow_up as _follow_up
from raylake.tables.errors import WriteConflict
from raylake.tables.requests import Read

METADATA: Final = "quality"
"""The key of RayLake's metadata in a commit under which a step tells its results."""
PARTITION_BY: Final = ("date",)
SCHEMA: Final = pa.schema(
    [
        ("table", pa.string()),
        ("target_table_id", pa.string()),
        ("target_version", pa.int64()),
        ("source", pa.string()),
        ("source_after", pa.int64()),
        ("source_version", pa.int64()),
        ("rule", pa.string()),
        ("category", pa.string()),
        ("severity", pa.string()),
        ("on_failure", pa.string()),
        ("rows", pa.int64()),
        ("failed", pa.int64()),
        ("share", pa.float64()),
        ("value_sample", pa.list_(pa.string())),
        ("passed", pa.bool_()),
        ("message", pa.string()),
        ("recommendation", pa.string()),
        ("figure", pa.float64()),
        ("threshold", pa.float64()),
        ("measures", pa.string()),
        ("by_rule", pa.bool_()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("date", pa.date32()),
    ]
)
"""The columns; ``target_version`` is null where a step committed nothing, ``measures`` is JSON."""
_TRIES: Final = 50
_STATS: Final = ("table", "target_version", "rule", "category", "passed", "at")
_LINE: Final = (
    *("table", "rule", "category", "severity", "rows", "failed", "share", "message"),
    *("recommendation", "passed", "by_rule", "at", "target_version"),
)
COLUMNS: Final = ("table", "rule", "state", "failed", "rows", "message", "recommendation", "at")
"""The columns of a report."""
Reader = Callable[[Read], pa.RecordBatchReader]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a report.

    Attributes:
        table: ``layer.name``.
        rule: The rule, or the category that was checked without one.
        category: Its category.
        state: ``passed``, or the severity of what failed.
        rows: What was judged.
        failed: What of it failed.
        share: The same as a share, 0 to 1.
        message: What was found, in plain words.
        recommendation: What to do; empty where it passed.
        at: When.
        target_version: The version that the step made; None: it made none.
    """

    table: str
    rule: str
    category: str
    state: str
    rows: int
    failed: int
    share: float
    message: str
    recommendation: str
    at: datetime
    target_version: int | None


def history_table(path: str) -> SideTable:
    """The history at an address, ``<lake>/_quality/<pipeline>``."""
    return SideTable(path, SCHEMA, PARTITION_BY, METADATA)


def entry(span: Span, results: Iterable[RuleResult], now: datetime) -> list[dict[str, Any]]:
    """A step's results for its commit's metadata, under :data:`METADATA`."""
    return [
        {
            "source": span.source,
            "after": span.after,
            "last": span.last,
            "at": now.astimezone(UTC).isoformat(),
            "results": [one.to_json() for one in results],
        }
    ]


def follow_up(side: SideTable, target: Target, clock: Clock) -> int:
    """Add the results that a table's commits tell; see :mod:`raylake.quality.side_table`.

    Returns:
        The number of commits whose results were added now.
    """

    def fill(target: Target, named: Sequence[Named]) -> Sequence[DataFile]:
        told = [_rows(target, one.version, e) for one in named for e in one.entries]
        return _written(side, told)

    return _follow_up(side, target, fill, clock)


def record(side: SideTable, target: Target, entries: Sequence[Any], clock: Clock) -> bool:
    """Add the results of a step that commits nothing; idempotent by their time.

    Args:
        side: The history.
        target: The table.
        entries: As of :func:`entry`; older than what was recorded of this table: passed over.
        clock: Time.

    Returns:
        False where they were recorded before.

    Raises:
        WriteConflict: Others came first each time.
        DependencyUnreachable: The store cannot be read or written.
    """
    app = f"raylake/{METADATA}-at/{target.table_id}"
    number = max((_at_us(one) for one in entries), default=0)
    files: Sequence[DataFile] | None = None
    for _ in range(_TRIES):
        stored, base = position(side, app)
        if number <= stored or not entries:
            return False
        if base is None:
            create(side)
            continue
        if files is None:
            files = _written(side, [_rows(target, None, one) for one in entries])
        if add(side, Addition(target, (app, number), base, files), clock):
            return True
    raise WriteConflict(f"{side.path}: others committed first {_TRIES} times", hint="try again")


def past(read: Reader, target: Target) -> Past:
    """What the categories of a table measured in its last results.

    Args:
        read: Reads the history.
        target: The table.
    """
    where = f"target_table_id = {_text(target.table_id)} AND NOT by_rule"
    found = read(Read(where, ("category", "measures", "at"))).read_all().sort_by("at")
    measures: dict[str, list[Mapping[str, Any]]] = {}
    for row in found.to_pylist():
        told = json.loads(row["measures"])
        if told:
            measures.setdefault(row["category"], []).append(told)
    return Past({name: each[-KEPT_RESULTS:] for name, each in measures.items()})


def report(read: Reader, table: str | None = None, *, last: int = 1) -> list[Line]:
    """What was found: what failed, then what passed, the newest first.

    Args:
        read: Reads the history.
        table: Of this table (``layer.name``) only.
        last: Of each rule and category so many results, the newest ones.
    """
    where = None if table is None else f'"table" = {_text(table)}'
    found = read(Read(where, _LINE)).read_all().sort_by([("at", "descending")])
    seen: Counter[tuple[str, str, bool]] = Counter()
    rows = []
    for row in found.to_pylist():
        what = (row["table"], row["rule"], row["by_rule"])
        seen[what] += 1
        if seen[what] <= last:
            rows.append(row)
    return [_line(row) for row in sorted(rows, key=lambda row: (row["passed"], -_us(row["at"])))]


def listing(lines: Sequence[Line], title: str = "quality") -> Listing[Line]:
    """A report for notebooks and terminals."""
    return Listing(title, lines, COLUMNS)


def known(read: Reader, target: Target, span: Span, results: Iterable[RuleResult]) -> bool:
    """Whether a step that was not made has left these results of its rules before.

    Args:
        read: Reads the history.
        target: The table.
        span: What the step was to bring in.
        results: What its rules found.
    """
    where = (
        f"target_table_id = {_text(target.table_id)} AND target_version IS NULL AND by_rule "
        f"AND source_after = {span.after} AND source_version = {span.last}"
    )
    found = read(Read(where, ("rule", "failed"))).read_all().to_pylist()
    told = {(row["rule"], row["failed"]) for row in found}
    return told >= {(one.rule, one.failed) for one in results}


def last_freshness(read: Reader, target: Target) -> dict[str, tuple[bool, float]]:
    """Of each freshness rule whether it passed the last time, and when; seconds since the epoch.

    Args:
        read: Reads the history.
        target: The table.
    """
    where = f"target_table_id = {_text(target.table_id)} AND by_rule AND category = 'freshness'"
    found = read(Read(where, ("rule", "passed", "at"))).read_all().sort_by("at")
    return {row["rule"]: (row["passed"], row["at"].timestamp()) for row in found.to_pylist()}


def summary(lines: Sequence[Line]) -> str:
    """The report in one sentence."""
    failed = [one for one in lines if one.state != "passed"]
    if not failed:
        return f"all {len(lines)} checks passed" if lines else "nothing was checked yet"
    kinds = [
        f"{count} {kind}{'s' if count > 1 and kind != 'info' else ''}"
        for kind in ("error", "warning", "info")
        if (count := sum(one.state == kind for one in failed))
    ]
    return f"{len(failed)} of {len(lines)} checks failed ({', '.join(kinds)})"


def _line(row: Mapping[str, Any]) -> Line:
    return Line(
        row["table"],
        row["rule"],
        row["category"],
        "passed" if row["passed"] else row["severity"],
        row["rows"],
        row["failed"],
        row["share"],
        row["message"],
        row["recommendation"],
        row["at"],
        row["target_version"],
    )


def _written(side: SideTable, told: Sequence[pa.Table]) -> Sequence[DataFile]:
    whole = pa.concat_tables([SCHEMA.empty_table(), *told])
    options = WriteOptions(stats_columns=_STATS)
    files = write_data_files(side.path, whole, SCHEMA, PARTITION_BY, options)
    faults.reach("quality.written", rows=whole.num_rows, path=side.path)
    return files


def _rows(target: Target, version: int | None, told: Mapping[str, Any]) -> pa.Table:
    at = datetime.fromisoformat(told["at"])
    head = {
        "table": target.name,
        "target_table_id": target.table_id,
        "target_version": version,
        "source": told["source"],
        "source_after": told["after"],
        "source_version": told["last"],
        "at": at,
        "date": at.date(),
    }
    rows = []
    for one in map(RuleResult.from_json, told["results"]):
        made = one.to_json()
        rows.append(
            {
                **head,
                **{name: made[name] for name in SCHEMA.names if name in made},
                "share": one.share,
                "passed": one.passed,
                "value_sample": list(one.values),
                "measures": json.dumps(dict(one.measures)),
            }
        )
    return pa.Table.from_pylist(rows, SCHEMA)


def _at_us(told: Mapping[str, Any]) -> int:
    return _us(datetime.fromisoformat(told["at"]))


def _us(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def _text(value: str) -> str:
    return str(exp.Literal.string(value).sql())
