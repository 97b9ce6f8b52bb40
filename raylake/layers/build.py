"""The derived tables of a pipeline file, ready to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from raylake.clock import Clock
from raylake.config import Pipeline
from raylake.config.addresses import quality_path, quarantine_path
from raylake.config.derived import AggregateTable, AnyDerived, KeyedTable
from raylake.errors import ConfigError
from raylake.layers.aggregates import Aggregates, AggregateSpec
from raylake.layers.definition import Definition
from raylake.layers.derived import Derivation
from raylake.layers.derived_table import DerivedTable
from raylake.layers.gate import RuleGate, SideTables
from raylake.layers.graph import Graph, Node, graph_of
from raylake.layers.replay import Asked, Replayed, replay
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.row_wise import derivation_of
from raylake.layers.step import By
from raylake.layers.transform_plan import TransformPlan
from raylake.layers.transform_run import TransformRun
from raylake.layers.triggers import Trigger, interval_of
from raylake.maintenance.after_write import AfterWrite
from raylake.maintenance.policy import policy_of
from raylake.quality.rules import RuleSet
from raylake.tables.service import TableService

_NOT_ROWS = {
    *("path", "quality", "trigger", "target_file_bytes", "max_hold_s", "zorder_by"),
    *("widen_limit_bytes", "retain_s", "retain_by", "optimize_after_write"),
    *("max_rows_per_trigger", "max_bytes_per_trigger", "remember_deletes_s"),
}
"""What of a table's model does not decide its rows."""
_LATER = {
    *("insert_only", "delete_when", "update_when", "insert_when"),
    *("update_columns", "insert_columns"),
}
"""Keys of later releases: where they are left out, a table is what it was before there were any."""


def build(
    plan: TransformPlan,
    tables: TableService,
    clock: Clock,
    told: Callable[[], None] = lambda: None,
) -> TransformRun:
    """The run of a plan's tables.

    Args:
        plan: What to do.
        tables: Reads and writes tables.
        clock: Time.
        told: See :class:`~raylake.layers.transform_run.TransformRun`.

    Raises:
        ConfigError: A table that is asked for is none of the file's, or its definition is wrong.
        Cycle: Tables read each other in a circle.
    """
    config = plan.run.config
    graph = graph_of(config)
    wanted = _wanted(graph, (*plan.tables, *plan.refresh) if plan.tables else ())
    by = By(tables, clock)
    made = [
        DerivedTable(definition(config, graph, node, clock), by)
        for node in graph.derived
        if node.name in wanted
    ]
    definitions = {one.name: one.definition for one in made}

    def replayed(table: str, asked: Asked) -> Replayed:
        return replay(definitions[table], by, asked)

    return TransformRun(made, clock, told, refresh=plan.refresh, replay=replayed)


def definition(config: Pipeline, graph: Graph, node: Node, clock: Clock) -> Definition:
    """One table of the file.

    Raises:
        ConfigError: Its rules, its query or its columns are wrong.
    """
    table = node.table
    if table is None:
        raise ConfigError(f"{node.name} is no silver or gold table of this file")
    source = graph.node(node.sources[0])
    keys = table.keys if isinstance(table, KeyedTable) else ()
    rules = RuleSet.of(table.quality, keys)
    aside = SideTables(quarantine_path(config), quality_path(config), clock)
    return Definition(
        name=node.name,
        address=node.address,
        pipeline=config.pipeline,
        source=source.name,
        source_address=source.address,
        digest=digest_of(table),
        derivation=_derivation(graph, node, source, rules),
        gate=RuleGate(node.name, rules, clock),
        aside=aside,
        sides=f"{config.lake.rstrip('/')}/_raylake/derived/{node.name}",
        trigger=Trigger.of(table.trigger, interval_of(table)),
        feeds=node.feed,
        properties=node.properties,
        others=node.sources[1:],
        foreign=tuple(
            one.address for name in node.sources if (one := graph.node(name)).table is None
        ),
        places={name: one.address for name, one in graph.nodes.items()},
        engine=config.engine,
        max_hold_s=table.max_hold_s,
        whole=hashlib.sha256(table.model_dump_json(by_alias=True).encode()).hexdigest(),
        widen_limit_bytes=table.widen_limit_bytes,
        after_write=_after_write(config, node.name, table),
        max_step_rows=table.max_rows_per_trigger,
        max_step_bytes=table.max_bytes_per_trigger,
    )


def _after_write(config: Pipeline, name: str, table: AnyDerived) -> AfterWrite | None:
    if table.optimize_after_write == "none":
        return None
    policy = policy_of(config.maintenance, name, table.zorder_by)
    if "target_file_bytes" in table.model_fields_set:
        policy = replace(policy, target_file_bytes=table.target_file_bytes)
    return AfterWrite(table.optimize_after_write, policy)


def _derivation(graph: Graph, node: Node, source: Node, rules: RuleSet) -> Derivation:
    table = node.table
    if isinstance(table, AggregateTable):
        rejects = any(one.rule.on_failure == "quarantine" for one in rules.rules)
        spec = AggregateSpec(table.sql, table.partition_by, table.zorder_by, rejects)
        return Aggregates(node.name, spec, graph.nodes)
    more = {"source_keys": _keys_of(source.table)} if source.table is not None else {}
    return derivation_of(RowWiseSpec.of(node.name, table, **more, properties=node.properties))


def _keys_of(table: AnyDerived) -> tuple[str, ...]:
    one_row_a_key = table.mode in ("upsert", "scd1")
    return tuple(table.keys) if one_row_a_key and isinstance(table, KeyedTable) else ()


def digest_of(table: AnyDerived) -> str:
    """What decides a table's rows, as a short text that changes when that does."""
    said = table.model_dump(mode="json", by_alias=True)
    aliases = {name: field.alias or name for name, field in type(table).model_fields.items()}
    for name in _NOT_ROWS:
        said.pop(aliases.get(name, name), None)
    for name in _LATER:
        if not said.get(name):
            said.pop(name, None)
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _wanted(graph: Graph, names: Iterable[str]) -> set[str]:
    """The tables and all that they come from; every one where none is named."""
    asked = list(names)
    if not asked:
        return {node.name for node in graph.derived}
    found: set[str] = set()
    for name in asked:
        found |= {name, *graph.ancestors(name)}
    return found
