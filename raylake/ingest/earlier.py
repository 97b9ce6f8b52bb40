"""The breakers of the run before, from which this one starts (DESIGN §7, §9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from raylake.errors import ConfigError, Refused
from raylake.ingest.breaker import Breaker, BreakerState
from raylake.ingest.status import read_status
from raylake.storage.place import Place

Snapshots = Mapping[str, Mapping[str, Any]]
"""Breakers' snapshots by name."""


@dataclass(frozen=True, slots=True)
class EarlierBreakers:
    """Breakers that were not closed when the status document was last written.

    Attributes:
        held: Tripped by hand, by name, with ``reason`` and ``since``; they stay open.
        owners: By table, then by store.
        consumers: By name, over all consumers, since partitions move between them.
    """

    owners: Mapping[str, Snapshots] = field(default_factory=dict)
    consumers: Snapshots = field(default_factory=dict)
    held: Snapshots = field(default_factory=dict)

    @classmethod
    def read(cls, status_file: Place) -> Self:
        """From a pipeline's status document; none where there is none that can be read."""
        try:
            document = read_status(status_file)
        except (ConfigError, Refused, OSError):
            return cls()
        owners = {
            name: not_closed(table.get("breakers") or {})
            for name, table in (document.get("tables") or {}).items()
        }
        consumers: dict[str, Mapping[str, Any]] = {}
        for consumer in (document.get("consumers") or {}).values():
            consumers.update(not_closed(consumer.get("breakers") or {}))
        held = dict(document.get("held") or {})
        return cls({name: found for name, found in owners.items() if found}, consumers, held)


def not_closed(snapshots: Snapshots) -> dict[str, Mapping[str, Any]]:
    """The snapshots of breakers that are open or half-open."""
    closed = BreakerState.CLOSED.value
    return {name: one for name, one in snapshots.items() if one.get("state", closed) != closed}


def restored(breaker: Breaker, snapshots: Snapshots, name: str) -> Breaker:
    """The breaker, half-open where an earlier one of this name was not closed."""
    if name in snapshots:
        breaker.restore(snapshots[name])
    return breaker
