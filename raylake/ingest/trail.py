"""What logs and traces say of a unit on its way, alike in each process that has to do with it.

``correlation_id`` is the unit's id. It stands in the lines and spans of the consumer and of the
owner, in the commit (``units``) and in the rows of its dead letters (``unit_id``), so one search
finds them all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from raylake.errors import RayLakeError
from raylake.ingest.unit import Unit, UnitOutcome
from raylake.telemetry import tracing

log = logging.getLogger(__name__)


class Way:
    """The span of a unit, from its plan to its owner's answer."""

    def __init__(self, span: tracing.OpenSpan) -> None:
        self._span = span

    def carrier(self) -> tracing.Carrier:
        """What the unit takes along."""
        return self._span.carrier()

    def handed_over(self) -> None:
        """It was sent, perhaps once more."""
        self._span.event("handed over", {})

    def answered(self, outcome: UnitOutcome) -> None:
        """Its owner has decided."""
        told = {"raylake.outcome": outcome.status}
        if outcome.version is not None:
            self._span.set({"raylake.commit": outcome.version})
        self._span.set(told)
        if outcome.status == "refused":
            self._span.failed(outcome.reason)
        self._span.end()

    def dropped(self) -> None:
        """It was never sent: its offsets are read again."""
        self._span.set({"raylake.outcome": "dropped"})
        self._span.end()


def origins(records: pa.RecordBatch) -> tuple[str, ...]:
    """The spans that a fetched batch comes from, some of them; none while tracing is off."""
    on = tracing.spans()
    return () if on is None else tracing.traceparents(records, on.links)


def planned(table: str, unit: Unit, found: Iterable[Sequence[str]]) -> tuple[Unit, Way | None]:
    """A consumer has planned a unit.

    Args:
        table: The table's name.
        unit: The unit.
        found: What :func:`origins` gave for its batches; not looked at while tracing is off.

    Returns:
        The unit as it is to be sent, and its span; None while tracing is off.
    """
    on = tracing.spans()
    if on is None:
        return unit, None
    counts = unit.counts
    attributes = {
        **_attributes([unit]),
        "raylake.correlation_id": unit.unit_id,
        "raylake.table": table,
        "raylake.consumer": unit.consumer,
        "raylake.generation": unit.generation,
        "raylake.rows": counts.rows,
        "raylake.dead": counts.dead,
    }
    way = Way(on.hand_over(attributes, (text for some in found for text in some)))
    return unit.replace(trace=way.carrier()), way


def handed_over(table: str, unit: Unit, way: Way | None = None) -> None:
    """A consumer has sent a unit to the owner of a table."""
    counts = unit.counts
    log.info(
        "%s: %d rows and %d dead letters handed over",
        table,
        counts.rows,
        counts.dead,
        extra={**_fields(unit), "table": table, "generation": unit.generation},
    )
    if way is not None:
        way.handed_over()


def refused(table: str, unit: Unit, outcome: UnitOutcome) -> None:
    """A consumer hears that nothing of a unit is in the table, and reads it again."""
    log.info(
        "%s refused %d rows and %d dead letters: %s",
        table,
        unit.counts.rows,
        unit.counts.dead,
        outcome.reason,
        extra={**_fields(unit), "table": table, "outcome": outcome.status},
    )


def decided(unit: Unit, outcome: UnitOutcome) -> None:
    """An owner has decided about a unit."""
    log.info(
        "%d rows and %d dead letters of %s: %s",
        unit.counts.rows,
        unit.counts.dead,
        unit.consumer,
        outcome.status if outcome.version is None else f"{outcome.status} in {outcome.version}",
        extra={**_fields(unit), "outcome": outcome.status, "commit": outcome.version},
    )


def commit(
    table_id: str, units: Sequence[Unit], make: Callable[[], list[UnitOutcome]]
) -> list[UnitOutcome]:
    """An owner's try to commit units, with a span of its own; so is the next one if it fails.

    Args:
        table_id: The table's id.
        units: The units.
        make: Commits them; what it raises goes on.
    """
    on = tracing.spans()
    if on is None:
        return make()
    attributes = {**_attributes(units), "raylake.table_id": table_id}
    span = on.commit(attributes, [unit.trace for unit in units])
    try:
        outcomes = make()
        for status in ("committed", "already", "refused"):
            count = sum(outcome.status == status for outcome in outcomes)
            span.set({f"raylake.units.{status}": count})
        for one in outcomes:
            if one.status == "committed" and one.version is not None:
                span.set({"raylake.commit": one.version})
    except RayLakeError as error:
        span.failed(error.message)
        raise
    finally:
        span.end()
    return outcomes


def _fields(unit: Unit) -> dict[str, Any]:
    spans = {str(one.source): [one.start, one.end] for one in unit.ranges}
    return {"correlation_id": unit.unit_id, "partitions": spans}


def _attributes(units: Sequence[Unit]) -> dict[str, Any]:
    ranges = [one for unit in units for one in unit.ranges]
    return {
        "messaging.system": "kafka",
        "raylake.correlation_ids": [unit.unit_id for unit in units],
        "raylake.partitions": [f"{one.source} {one.start}-{one.end}" for one in ranges],
    }
