"""What the logs say of a unit on its way: the same fields in each process that has to do with it.

``correlation_id`` is the unit's id. It stands in the lines of the consumer and of the owner, in the
commit (``units``) and in the rows of its dead letters (``unit_id``), so one search finds them all.
"""

from __future__ import annotations

import logging
from typing import Any

from raylake.ingest.unit import Unit, UnitOutcome

log = logging.getLogger(__name__)


def handed_over(table: str, unit: Unit) -> None:
    """A consumer has sent a unit to the owner of a table."""
    counts = unit.counts
    log.info(
        "%s: %d rows and %d dead letters handed over",
        table,
        counts.rows,
        counts.dead,
        extra={**_fields(unit), "table": table, "generation": unit.generation},
    )


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


def _fields(unit: Unit) -> dict[str, Any]:
    spans = {str(one.source): [one.start, one.end] for one in unit.ranges}
    return {"correlation_id": unit.unit_id, "partitions": spans}
