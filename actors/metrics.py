"""Metrics through Ray: they appear at the node's metrics endpoint as ``ray_<name>``."""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from raylake.telemetry.metrics import Labels
from raylake.telemetry.spec import METRICS, declared


class RayMetrics:
    """The port ``raylake.telemetry.metrics.Metrics`` over ``ray.util.metrics``."""

    def __init__(self) -> None:
        self._instruments: dict[str, Any] = {}
        for spec in METRICS:
            options: dict[str, Any] = {"description": spec.help, "tag_keys": spec.labels}
            if spec.kind == "histogram":
                options["boundaries"] = list(spec.buckets)
            made: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
            self._instruments[spec.name] = made[spec.kind](spec.name, **options)

    def add(self, name: str, amount: float, labels: Labels) -> None:
        """Let a counter grow."""
        declared(name).check("counter", labels)
        if amount > 0:
            self._instruments[name].inc(amount, dict(labels))

    def set(self, name: str, value: float, labels: Labels) -> None:
        """Set a gauge."""
        declared(name).check("gauge", labels)
        self._instruments[name].set(value, dict(labels))

    def observe(self, name: str, value: float, labels: Labels) -> None:
        """Add an observation to a histogram."""
        declared(name).check("histogram", labels)
        self._instruments[name].observe(value, dict(labels))
