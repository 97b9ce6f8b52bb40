"""The port through which metrics leave, and the implementation that keeps them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from raylake.telemetry.spec import Kind, declared

Labels = Mapping[str, str]


class Metrics(Protocol):
    """Takes samples of declared metrics; raises ``ValueError`` for any other."""

    def add(self, name: str, amount: float, labels: Labels) -> None:
        """Let a counter grow."""
        ...

    def set(self, name: str, value: float, labels: Labels) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, value: float, labels: Labels) -> None:
        """Add an observation to a histogram."""
        ...


class MemoryMetrics:
    """Keeps the newest value of each series. Not thread-safe."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, name: str, amount: float, labels: Labels) -> None:
        """Let a counter grow.

        Raises:
            ValueError: It would shrink, or is not declared like this.
        """
        if amount < 0:
            raise ValueError(f"{name} is a counter and cannot shrink by {-amount}")
        self._grow(name, "counter", amount, labels)

    def set(self, name: str, value: float, labels: Labels) -> None:
        """Set a gauge."""
        self._values[_series(name, "gauge", labels)] = value

    def observe(self, name: str, value: float, labels: Labels) -> None:
        """Add an observation to a histogram; its sum and count are kept."""
        series, label_pairs = _series(name, "histogram", labels)
        for suffix, amount in (("_count", 1.0), ("_sum", value)):
            key = (series + suffix, label_pairs)
            self._values[key] = self._values.get(key, 0.0) + amount

    def value(self, name: str, **labels: str) -> float:
        """The value of a series; 0 for one that had no sample."""
        return self._values.get((name, tuple(sorted(labels.items()))), 0.0)

    def snapshot(self) -> dict[str, float]:
        """All values by series, written as ``name{label="value"}``."""
        return {
            name + "{" + ",".join(f'{k}="{v}"' for k, v in labels) + "}": value
            for (name, labels), value in sorted(self._values.items())
        }

    def _grow(self, name: str, kind: Kind, amount: float, labels: Labels) -> None:
        key = _series(name, kind, labels)
        self._values[key] = self._values.get(key, 0.0) + amount


class Both:
    """Passes samples on to two implementations."""

    def __init__(self, first: Metrics, second: Metrics) -> None:
        self._sinks = (first, second)

    def add(self, name: str, amount: float, labels: Labels) -> None:
        """Let a counter grow."""
        for sink in self._sinks:
            sink.add(name, amount, labels)

    def set(self, name: str, value: float, labels: Labels) -> None:
        """Set a gauge."""
        for sink in self._sinks:
            sink.set(name, value, labels)

    def observe(self, name: str, value: float, labels: Labels) -> None:
        """Add an observation to a histogram."""
        for sink in self._sinks:
            sink.observe(name, value, labels)


def _series(name: str, kind: Kind, labels: Labels) -> tuple[str, tuple[tuple[str, str], ...]]:
    declared(name).check(kind, labels)
    return name, tuple(sorted(labels.items()))
