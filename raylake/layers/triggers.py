"""When a derived table is brought up to date: a decision from the past, the clock and its source.

What a trigger remembers lies in the target's log: each step's commit says when it was made
(``raylake.at_ms``) and how far the source's watermark was (``raylake.watermark_ms``). So a process
that starts anew decides as the one before it would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlglot import exp

from raylake.config.columns import PartitionField
from raylake.config.cron import Cron, parse_cron
from raylake.config.derived import AggregateTable, AnyDerived
from raylake.layers.query import parse_query

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
AHEAD_MS: Final = HOUR_MS
"""So far a step may lie after now, by clocks that differ, and is still taken for true."""
AT: Final = "at_ms"
WATERMARK: Final = "watermark_ms"
_UNITS_MS: Final[Mapping[str, int]] = {
    "second": 1000,
    "minute": 60_000,
    "hour": HOUR_MS,
    "day": DAY_MS,
}


@dataclass(frozen=True, slots=True)
class Fired:
    """What is known of a table's last step.

    Attributes:
        at_ms: When it was made, milliseconds since the epoch; None: there was none.
        watermark_ms: The source's watermark then; None: it had none.
    """

    at_ms: int | None = None
    watermark_ms: int | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any] | None) -> Fired:
        """From the ``raylake`` metadata of the target's last step; None: there was none."""
        if metadata is None:
            return cls()
        return cls(_whole(metadata.get(AT)), _whole(metadata.get(WATERMARK)))

    def to_metadata(self) -> dict[str, int | None]:
        """What the commit of a step says, for :meth:`of`."""
        return {AT: self.at_ms, WATERMARK: self.watermark_ms}


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a step is due.

    Attributes:
        kind: What it goes by.
        cron: The schedule, of ``cron``.
        interval_ms: Of ``watermark``: the length of the intervals whose ends it must pass.
    """

    kind: Literal["source_changed", "watermark", "cron"]
    cron: Cron | None = None
    interval_ms: int = DAY_MS

    @classmethod
    def of(cls, text: str, interval_ms: int = DAY_MS) -> Trigger:
        """The trigger that a pipeline file writes.

        Args:
            text: ``source_changed``, ``watermark``, or five fields of a schedule in UTC.
            interval_ms: For ``watermark``; see :func:`interval_of`.

        Raises:
            Invalid: It is none.
        """
        if text == "source_changed":
            return cls("source_changed")
        if text == "watermark":
            return cls("watermark", interval_ms=interval_ms)
        return cls("cron", parse_cron(text))

    def due(
        self,
        state: Fired,
        now_ms: int,
        *,
        source_moved: bool,
        watermark_ms: int | None = None,
        ending: bool = False,
    ) -> bool:
        """Whether a step is to be made now.

        Args:
            state: The last one.
            now_ms: Milliseconds since the epoch.
            source_moved: Whether the source has a version that is not processed.
            watermark_ms: The source's watermark; None: it has none.
            ending: Whether the run ends after this (a drain, or ``available_now``): what goes by
                the watermark, or has no next moment, is then made once whatever it says.
        """
        if not source_moved:
            return False
        if self.kind == "source_changed" or (ending and self.kind == "watermark"):
            return True
        if self.cron is not None:
            # However many moments were missed, one step deals with all that came.
            planned = self.next_ms(state, now_ms)
            return planned is not None and planned <= now_ms
        if watermark_ms is None:
            return False
        if state.watermark_ms is None:
            return True
        return watermark_ms // self.interval_ms > state.watermark_ms // self.interval_ms

    def next_ms(self, state: Fired, now_ms: int) -> int | None:
        """When a schedule's next step is planned, at or before now if it is due; None: unplanned.

        A table without a step is due at once: there is nothing of it to read yet. So is one whose
        last step was made by a clock that was ahead: it would wait until that time comes.
        """
        if self.cron is None:
            return None
        if state.at_ms is None or state.at_ms > now_ms + AHEAD_MS:
            return now_ms
        return self.cron.next_after(state.at_ms)

    def next_text(self, state: Fired, now_ms: int) -> str:
        """What the next step waits for, for people; ISO 8601 where it is a moment."""
        if self.kind == "source_changed":
            return "the source's next version"
        if self.kind == "cron":
            planned = self.next_ms(state, now_ms)
            return "never" if planned is None else _iso(planned)
        if state.watermark_ms is None:
            return "a watermark of the source"
        end_ms = (state.watermark_ms // self.interval_ms + 1) * self.interval_ms
        return f"a watermark from {_iso(end_ms)} on"


def interval_of(table: AnyDerived) -> int:
    """The finest interval of time by which a table is divided, in milliseconds; a day by default.

    It is the finest of ``date()`` and ``hour()`` among its partitions, and of the ``date_trunc``
    and ``CAST … AS DATE`` that an aggregate groups by.
    """
    found = [_of_partition(one) for one in table.partition_fields if one.transform != "column"]
    if isinstance(table, AggregateTable):
        found += _of_query(table.sql)
    return min(found, default=DAY_MS)


def _of_partition(one: PartitionField) -> int:
    return HOUR_MS if one.transform == "hour" else DAY_MS


def _of_query(sql: str) -> list[int]:
    found = []
    for select in parse_query(sql).tree.find_all(exp.Select):
        group = select.args.get("group")
        named = {one.alias: one.this for one in select.expressions if isinstance(one, exp.Alias)}
        by_all = group is not None and group.args.get("all")
        plain = [one for one in select.expressions if one.find(exp.AggFunc) is None]
        for one in plain if by_all else group.expressions if group is not None else ():
            ordinal = one.is_int and 0 < int(one.name) <= len(select.expressions)
            by = select.expressions[int(one.name) - 1] if ordinal else one
            by = named.get(by.name, by) if isinstance(by, exp.Column) else by
            found += [ms for node in by.walk() if (ms := _granularity(node)) is not None]
    return found


def _granularity(node: exp.Expr) -> int | None:
    if isinstance(node, exp.DateTrunc | exp.TimestampTrunc):
        return _UNITS_MS.get(str(node.args["unit"].name).lower())
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.DATE:
        return DAY_MS
    return DAY_MS if isinstance(node, exp.TsOrDsToDate | exp.Date) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _iso(moment_ms: int) -> str:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
