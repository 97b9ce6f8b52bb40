"""The tables of a pipeline file as a graph: who reads whom, in which order, and how."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from raylake.config import Pipeline, table_path
from raylake.config.bronze import BronzeTable
from raylake.config.derived import (
    AggregateTable,
    AnyDerived,
    AppendTable,
    KeyedTable,
    Scd2Table,
    UpsertTable,
    sources_of,
)
from raylake.config.derived_checks import circles
from raylake.layers.errors import Cycle, UnknownSource
from raylake.near import did_you_mean

CHANGE_FEED: Final = "delta.enableChangeDataFeed"
OUTSIDE: Final = "outside"
"""The layer of a table that another pipeline, or somebody else, writes."""


@dataclass(frozen=True, slots=True)
class Node:
    """A table.

    Attributes:
        name: ``layer.name``, as the file writes it.
        layer: ``bronze``, ``silver``, ``gold``, or :data:`OUTSIDE`.
        address: Where it lies.
        sources: The tables that it reads, in the order in which they are written.
        table: How it follows from them; None: bronze, or somebody else's.
        feed: Whether it needs the change feed: another table reads it, and its rows change.
    """

    name: str
    layer: str
    address: str
    sources: tuple[str, ...] = ()
    table: AnyDerived | None = None
    feed: bool = False

    @property
    def mode(self) -> str:
        """``append``, ``upsert``, ``scd1``, ``scd2`` or ``aggregate``; bronze appends."""
        if self.table is not None:
            return str(self.table.mode)
        return "append" if self.layer == "bronze" else ""

    @property
    def trigger(self) -> str:
        """When it is brought up to date; empty for what does not follow from others."""
        return self.table.trigger if self.table is not None else ""

    @property
    def strategy(self) -> str:
        """How its rows are kept, in words."""
        return _strategy(self.table) if self.table is not None else ""

    @property
    def properties(self) -> dict[str, str]:
        """The Delta table properties that it is given."""
        own = dict(self.table.properties) if self.table is not None else {}
        return {**own, CHANGE_FEED: "true"} if self.feed else own

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``raylake explain``."""
        return {
            "name": self.name,
            "layer": self.layer,
            "address": self.address,
            "mode": self.mode,
            "trigger": self.trigger,
            "strategy": self.strategy,
            "properties": self.properties,
        }


@dataclass(frozen=True)
class Graph:
    """Tables and who reads whom.

    Attributes:
        nodes: Every table by its name, each after all that it reads.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)

    @property
    def derived(self) -> tuple[Node, ...]:
        """The tables that follow from others, in an order in which they can be made."""
        return tuple(node for node in self.nodes.values() if node.table is not None)

    @property
    def outside(self) -> tuple[Node, ...]:
        """The sources that this file does not declare."""
        return tuple(node for node in self.nodes.values() if node.layer == OUTSIDE)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Source and reader of each."""
        return tuple((one, node.name) for node in self.nodes.values() for one in node.sources)

    def node(self, name: str) -> Node:
        """A table.

        Raises:
            UnknownSource: There is none of this name.
        """
        if name not in self.nodes:
            raise UnknownSource(f"there is no table {name}", hint=did_you_mean(name, self.nodes))
        return self.nodes[name]

    def readers(self, name: str) -> tuple[str, ...]:
        """The tables that read one."""
        return self._readers.get(self.node(name).name, ())

    def descendants(self, name: str) -> tuple[str, ...]:
        """All tables that follow from one, in order, itself left out."""
        return self._reached(name, self.readers)

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All tables that one follows from, in order, itself left out."""
        return self._reached(name, lambda one: self.nodes[one].sources)

    def require_sources(self, there: Callable[[str], bool]) -> None:
        """Refuse to go on where a source is neither declared nor there.

        Args:
            there: Whether a Delta table lies at an address.

        Raises:
            UnknownSource: Naming the first such source and who reads it.
        """
        for node in self.outside:
            if not there(node.address):
                reader = self.readers(node.name)[0]
                raise UnknownSource(
                    f"{reader} reads {node.name}, which this pipeline does not declare, and there "
                    f"is no table at {node.address}",
                    hint=did_you_mean(node.name, [*self.nodes.keys() - {node.name}]),
                    table=reader,
                    source=node.name,
                )

    def to_dict(self) -> dict[str, Any]:
        """Nodes and edges as plain data."""
        return {
            "nodes": [node.to_dict() for node in self.nodes.values()],
            "edges": [{"source": one, "table": other} for one, other in self.edges],
        }

    def tree(self) -> list[str]:
        """The graph as lines of text, each table below the one that it reads.

        A table that reads several stands below each of them, and is told whole below the last.
        """
        lines: list[str] = []
        roots = [node.name for node in self.nodes.values() if not node.sources]
        for root in roots:
            lines.append(self._line(root))
            self._branches(root, "", lines)
        return lines

    def _branches(self, name: str, indent: str, lines: list[str]) -> None:
        readers = self.readers(name)
        for reader in readers:
            last = reader == readers[-1]
            whole = self.nodes[reader].sources[-1] == name
            text = self._line(reader) if whole else f"{reader} (reads others too, see below)"
            lines.append(f"{indent}{'└─' if last else '├─'} {text}")
            if whole:
                self._branches(reader, f"{indent}{'   ' if last else '│  '}", lines)

    def _line(self, name: str) -> str:
        node = self.nodes[name]
        if node.table is None:
            return f"{name} ({'another pipeline writes it' if node.layer == OUTSIDE else 'Kafka'})"
        feed = "; its change feed is on" if node.feed else ""
        return f"{name}: {node.strategy}; when: {node.trigger}{feed}"

    def _reached(self, name: str, step: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
        found: set[str] = set()
        waiting = [self.node(name).name]
        while waiting:
            new = set(step(waiting.pop())) - found
            found |= new
            waiting += new
        return tuple(one for one in self.nodes if one in found)

    @cached_property
    def _readers(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for source, reader in self.edges:
            found.setdefault(source, []).append(reader)
        return {name: tuple(readers) for name, readers in found.items()}


def graph_of(config: Pipeline) -> Graph:
    """The graph of a pipeline file's tables.

    Raises:
        Cycle: Tables read each other in a circle; naming the way round.
        ConfigError: A source's address cannot be told.
    """
    tables: dict[str, AnyDerived] = {f"silver.{key}": one for key, one in config.silver.items()}
    tables |= {f"gold.{key}": one for key, one in config.gold.items()}
    reads = {name: sources_of(table) for name, table in tables.items()}
    _refuse_circles(reads)
    read = {source for sources in reads.values() for source in sources}
    others = sorted(read - set(tables))
    order = graphlib.TopologicalSorter({**dict.fromkeys(others, ()), **reads}).static_order()
    nodes: dict[str, Node] = {}
    for name in order:
        if name in tables:
            feed = name in read and not isinstance(tables[name], AppendTable)
            address = table_path(config, name)
            layer = name.partition(".")[0]
            nodes[name] = Node(name, layer, address, reads[name], tables[name], feed)
        else:
            nodes[name] = _source(config, name)
    return Graph(nodes)


def _refuse_circles(reads: Mapping[str, tuple[str, ...]]) -> None:
    rings: list[tuple[str, ...]] = [
        (name, name) for name, sources in reads.items() if name in sources
    ]
    rings += circles(reads)
    if rings:
        ring = rings[0]
        raise Cycle(
            f"tables read each other in a circle: {' reads '.join(ring)}",
            hint="let one of them read another table",
            path=list(ring),
        )


def _source(config: Pipeline, name: str) -> Node:
    """A table that this file does not derive."""
    layer, _, short = name.partition(".")
    if layer == "bronze":
        if short in config.bronze and not config.bronze[short].fans_out:
            return Node(name, layer, table_path(config, name))
        for key, table in config.bronze.items():
            topic = _topic_of(table, short)
            if table.table == short and not table.fans_out:
                return Node(name, layer, table_path(config, f"bronze.{key}"))
            if topic is not None:
                return Node(name, layer, table_path(config, f"bronze.{key}", topic))
    return Node(name, OUTSIDE, f"{config.lake.rstrip('/')}/{layer}/{short}")


def _topic_of(table: BronzeTable, name: str) -> str | None:
    """The topic whose table has a name, where there is one table a topic; None: none of these."""
    if not table.fans_out or table.table is None:
        return None
    before, _, after = table.table.partition("{topic}")
    match = re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", name)
    if match is None:
        return None
    topics = table.topics
    known = match[1] in topics if isinstance(topics, tuple) else topics.matches(match[1])
    return match[1] if known else None


def _strategy(table: AnyDerived) -> str:
    if isinstance(table, AggregateTable):
        return "a query; groups that changed are computed again"
    if not isinstance(table, KeyedTable):
        return "each row of the source becomes a row"
    keys, order = ", ".join(table.keys), ", ".join((*table.sequence_by, "arrival"))
    if isinstance(table, Scd2Table):
        return f"history by {keys}: a row for each change of {', '.join(table.track)}, by {order}"
    what = "one row a key" if isinstance(table, UpsertTable) else "one row a key, changed in place"
    if table.insert_only:
        return f"{what} ({keys}), the first that comes; rows that are there stay"
    wins = f"the latest by {order}" if table.resolve == "latest" else f"resolve: {table.resolve}"
    return f"{what} ({keys}), {wins}"
