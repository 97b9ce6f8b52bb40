"""Retention as a part of upkeep: rows that are older than they may be leave on a schedule."""

from __future__ import annotations

import time

from raylake.client.quarantine import Service
from raylake.client.retention import Retained, kept_names, retain_tables
from raylake.clock import Clock
from raylake.config import Pipeline
from raylake.errors import RayLakeError
from raylake.maintenance.actions import Action
from raylake.maintenance.outcomes import Ending, Outcome
from raylake.maintenance.price import Price
from raylake.maintenance.subjects import Subject


class Retaining:
    """:class:`raylake.maintenance.tending.Retention` of a pipeline file.

    Args:
        config: The pipeline.
        by: Who writes tables that have an owner.
        clock: Time.
    """

    def __init__(self, config: Pipeline, by: Service, clock: Clock) -> None:
        self._config = config
        self._by = by
        self._clock = clock

    def asked(self, table: str) -> bool:
        """See :meth:`raylake.maintenance.tending.Retention.asked`."""
        layer, _, short = table.partition(".")
        section = getattr(self._config, layer, {}).get(short)
        if section is not None:
            return section.retain_s is not None
        # Of a pattern's tables the log says which section is theirs.
        fans = [one for one in self._config.bronze.values() if one.fans_out]
        return layer == "bronze" and any(one.retain_s is not None for one in fans)

    def take(self, subject: Subject) -> Outcome:
        """See :meth:`raylake.maintenance.tending.Retention.take`."""
        began_s, found, note = time.monotonic(), None, ""
        try:
            if subject.name in kept_names(self._config):
                (found,) = retain_tables(
                    self._config, table=subject.name, by=self._by, clock=self._clock
                )
        except RayLakeError as error:
            note = error.message
        ending, said = _told(found) if not note else ("failed", note)
        column = found.column if found is not None else "age"
        return Outcome(
            subject.name,
            subject.address,
            Action("retain", f"rows are kept for so long by {column}", "fewer rows", Price()),
            ending,
            Price(),
            None if found is None else found.version,
            time.monotonic() - began_s,
            0.0,
            said,
            self._clock.now(),
        )


def _told(found: Retained | None) -> tuple[Ending, str]:
    if found is None:
        return "nothing", "its section has no `retain`"
    if found.error is not None:
        return "failed", str(found.error.get("message"))
    said = f"{found.rows:,} rows from before {found.before}"
    return ("done" if found.version is not None else "nothing"), said
