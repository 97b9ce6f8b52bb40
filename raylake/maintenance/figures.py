"""Metrics of upkeep."""

from __future__ import annotations

from typing import Final

from raylake.maintenance.outcomes import Outcome
from raylake.maintenance.plan import Plan
from raylake.telemetry.metrics import Metrics

DEBT: Final = "raylake_maintenance_debt_ratio"
BYTES: Final = "raylake_maintenance_bytes_total"
JOBS: Final = "raylake_maintenance_jobs_total"
SECONDS: Final = "raylake_maintenance_seconds"


class Figures:
    """Samples of one pipeline's upkeep.

    Args:
        metrics: Takes them.
        pipeline: Its name.
    """

    def __init__(self, metrics: Metrics, pipeline: str) -> None:
        self._metrics = metrics
        self._pipeline = pipeline
        self._refused: dict[str, frozenset[tuple[str, str]]] = {}

    def planned(self, table: str, plan: Plan) -> None:
        """A table was looked at; what was refused before already is not counted again."""
        labels = {"pipeline": self._pipeline, "table": table}
        for part in plan.debt.parts:
            self._metrics.set(DEBT, part.score, {**labels, "part": part.name})
        refused = frozenset((one.kind, str(one.partition)) for one in plan.refusals)
        for kind, _ in refused - self._refused.get(table, frozenset()):
            self._metrics.add(JOBS, 1, {**labels, "action": kind, "outcome": "refused"})
        self._refused[table] = refused

    def ended(self, one: Outcome) -> None:
        """An action has ended."""
        labels = {"pipeline": self._pipeline, "table": one.table}
        by_action = {**labels, "action": one.action.kind}
        self._metrics.add(JOBS, 1, {**by_action, "outcome": one.ending})
        self._metrics.observe(SECONDS, one.duration_s, by_action)
        self._metrics.add(BYTES, one.real.bytes_written, {**labels, "kind": "rewritten"})
        self._metrics.add(BYTES, one.saved_bytes, {**labels, "kind": "saved"})
