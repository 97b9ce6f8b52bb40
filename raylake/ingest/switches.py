"""Breakers that people trip and reset, addressed by one name over all processes of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from raylake.errors import ConfigError
from raylake.ingest.breaker import Breaker
from raylake.ingest.retry import Dependency
from raylake.ingest.unit import SourcePartition

DEPENDENCIES: Final = ("broker", "store", "dead_letters", "poison")
STORES: Final = ("store", "dead_letters")
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Switches:
    """What people decided about breakers; a process that gets it does all of it.

    Attributes:
        held: Breakers that stay open until somebody closes them, by name, with the reason.
        reset: Breakers to close now, whoever opened them.
    """

    held: Mapping[str, str] = field(default_factory=dict)
    reset: frozenset[str] = frozenset()

    @classmethod
    def of(cls, held: Mapping[str, Mapping[str, Any]], reset: Iterable[str] = ()) -> Switches:
        """From what the status document says of the held ones."""
        reasons = {name: str(one.get("reason", "")) for name, one in held.items()}
        return cls(reasons, frozenset(reset))

    def apply(self, name: str, breaker: Breaker) -> None:
        """Do it to one breaker."""
        if name in self.held:
            if not breaker.by_hand:
                breaker.trip(f"by hand: {self.held[name]}")
        elif breaker.by_hand or name in self.reset:
            breaker.reset()

    def apply_to_stores(self, table: str, stores: Mapping[str, Dependency]) -> None:
        """Do it to the breakers of a table's stores, in an owner or a consumer."""
        for dependency, store in stores.items():
            self.apply(f"{table}/{dependency}", store.breaker)


@dataclass(frozen=True, slots=True)
class Target:
    """What a breaker's name says.

    Attributes:
        dependency: One of :data:`DEPENDENCIES`.
        table: Empty for the broker.
        partition: ``topic/0``; empty but for poison.
    """

    dependency: str
    table: str = ""
    partition: str = ""

    @classmethod
    def of(cls, name: str) -> Target:
        """Read a name: ``broker``, ``TABLE/store``, ``poison/TABLE/TOPIC/ID/PARTITION``."""
        parts = name.split("/")
        if parts[0] == "poison" and len(parts) == 5:
            return cls("poison", parts[1], f"{parts[2]}/{parts[4]}")
        if len(parts) == 2:
            return cls(parts[1], parts[0])
        return cls(name)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which breakers an order means; None means any.

    Attributes:
        dependency: One of :data:`DEPENDENCIES`.
        table: ``bronze.orders``.
        partition: ``topic/0``.
    """

    dependency: str | None = None
    table: str | None = None
    partition: str | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Selection:
        """From an order's arguments."""
        return cls(*(arguments.get(name) for name in ("dependency", "table", "partition")))

    def of_names(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are meant.

        Raises:
            ConfigError: None of them; the message says which there are.
        """
        known = sorted(set(names))
        found = [name for name in known if self._means(Target.of(name))]
        if not found:
            asked = [f"{k} {v}" for k, v in self.to_dict().items() if v]
            shown = [*known[:SHOWN], *(["…"] if len(known) > SHOWN else [])]
            raise ConfigError(
                f"no breaker fits {', '.join(asked) or 'this'}",
                hint="there are: " + ", ".join(shown),
            )
        return found

    def to_dict(self) -> dict[str, str | None]:
        """An order's arguments."""
        return {
            "dependency": self.dependency,
            "table": self.table,
            "partition": self.partition,
        }

    def _means(self, target: Target) -> bool:
        asked = (self.dependency, self.table, self.partition)
        has = (target.dependency, target.table, target.partition)
        return all(want in (None, there) for want, there in zip(asked, has, strict=True))


def poison_name(table: str, source: SourcePartition) -> str:
    """The name of a partition's breaker; the topic's id tells a topic that was created again."""
    place = f"{source.topic}/{source.topic_id}/{source.partition}"
    return f"poison/{table}/{place}" if table else f"poison/{place}"


def breaker_names(tables: Mapping[str, Iterable[SourcePartition]]) -> list[str]:
    """The names of all breakers of a run with these tables."""
    names = ["broker"]
    for table, sources in tables.items():
        names += [f"{table}/{dependency}" for dependency in STORES]
        names += [poison_name(table, source) for source in sources]
    return names
