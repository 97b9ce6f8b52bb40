"""Metrics for Prometheus: the port of ``raylake.telemetry.metrics`` over prometheus-client."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from raylake.telemetry.metrics import Labels
from raylake.telemetry.spec import METRICS, declared

_KINDS: Final[dict[str, Any]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class PrometheusMetrics:
    """Keeps the declared metrics in a registry of its own, which an endpoint serves.

    Attributes:
        registry: Holds the declared metrics and nothing else.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._instruments: dict[str, Any] = {}
        for spec in METRICS:
            buckets = {"buckets": spec.buckets} if spec.buckets else {}
            kind = _KINDS[spec.kind]
            self._instruments[spec.name] = kind(
                spec.name, spec.help, spec.labels, registry=self.registry, **buckets
            )

    def add(self, name: str, amount: float, labels: Labels) -> None:
        """Let a counter grow."""
        declared(name).check("counter", labels)
        self._instruments[name].labels(**labels).inc(amount)

    def set(self, name: str, value: float, labels: Labels) -> None:
        """Set a gauge."""
        declared(name).check("gauge", labels)
        self._instruments[name].labels(**labels).set(value)

    def observe(self, name: str, value: float, labels: Labels) -> None:
        """Add an observation to a histogram."""
        declared(name).check("histogram", labels)
        self._instruments[name].labels(**labels).observe(value)
