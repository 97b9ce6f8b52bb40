"""``raylake explain``: every value with its origin, what will run, the graph, the guarantee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import pyarrow as pa
import typer
from rich.table import Table

from raylake.cli.files import load_file, status_file
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    printable,
    stdout,
)
from raylake.codecs import parse_schema, written_with_escapes
from raylake.config import (
    BronzeTable,
    Loaded,
    Pipeline,
    Scaled,
    TopicPattern,
    dead_letter_path,
    table_path,
)
from raylake.config.models import DependencyName, RetryRule
from raylake.config.units import format_duration, format_size
from raylake.layers.graph import graph_of

GUARANTEE: Final = (
    "Each record of each topic lands exactly once, as a row of its table or as a dead letter, "
    "across crashes, restarts and duplicates of the job; data and offsets move in one commit, and "
    "`raylake verify` proves it."
)

app = typer.Typer(add_completion=False)


@app.command()
def explain(file: FileArgument, set_: SetOption = None, output: OutputOption = Output.text) -> None:
    """Every value with its origin, what will run where, and the guarantee."""
    loaded = load_file(file, set_)
    values, runs, notes = explained(loaded), plan(loaded), loaded.config.not_yet()
    graph = graph_of(loaded.config)
    if output is Output.json:
        print_json(
            {
                "values": values,
                "runs": runs,
                "graph": graph.to_dict(),
                "guarantee": GUARANTEE,
                "not_yet": notes,
                "sha256": loaded.sha256,
            }
        )
        return
    console = stdout()
    texts = loaded.written()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("value", "is", "from"):
        table.add_column(head, overflow="fold")
    for one in values:
        table.add_row(one["key"], printable(texts[one["key"]]), one["origin"])
    console.print(table)
    console.print("\nWhat runs:")
    for line in runs:
        console.print(f"  {line}")
    if graph.derived:
        console.print("\nWhich table follows from which:")
    for line in graph.tree():
        console.print(f"  {line}")
    console.print(f"\n{GUARANTEE}")
    for note in notes:
        console.print(f"Not yet: {note}")


def explained(loaded: Loaded) -> list[dict[str, Any]]:
    """Every value with its dotted key and its origin, in the order of the model."""
    return [
        {"key": key, "value": value, "origin": loaded.origins.get(key, "default")}
        for key, value in loaded.values().items()
    ]


def plan(loaded: Loaded) -> list[str]:
    """What will run where, a line each; asks nobody."""
    config = loaded.config
    readers = _readers(config.ingest.consumers)
    lines = [
        f"a supervisor and {readers} on Ray: RAY_ADDRESS, or an embedded cluster here",
        f"reading from {config.kafka.bootstrap}",
    ]
    for key, table in config.bronze.items():
        topics = (
            f"every topic that matches {table.topics.pattern!r}"
            if isinstance(table.topics, TopicPattern)
            else ", ".join(table.topics)
        )
        lines.append(f"bronze.{key}: {topics}, {table.format}, into {_place(config, key)}")
        lines.append(f"bronze.{key}: {_decoding(table)}")
    lines.append(f"dead letters into {dead_letter_path(config)}")
    lines += [
        f"{node.name}: {node.strategy}, into {node.address}" for node in graph_of(config).derived
    ]
    lines += [
        f"failures of {name}: {_retries(config.retry.of(name))}"
        for name in get_args(DependencyName)
    ]
    lines.append(f"status in {status_file(loaded)}")
    return lines + _observers(config)


def _readers(asked: int | str | Scaled) -> str:
    """How many consumers, in words."""
    if not isinstance(asked, Scaled):
        return "one consumer a CPU, at most four" if asked == "auto" else f"{asked} consumers"
    lag, patience = format_duration(asked.lag_s), format_duration(asked.down_after_s)
    size = format_size(asked.lag_bytes)
    return (
        f"{asked.min} to {asked.max} consumers (one more where one lags by {lag} or {size}, fewer "
        f"when fewer have sufficed for {patience})"
    )


def _observers(config: Pipeline) -> list[str]:
    """Where metrics and spans go, beside the run's own endpoint."""
    lines, gateway, cloudwatch = [], config.metrics.push_gateway, config.metrics.cloudwatch
    if gateway is not None:
        often = format_duration(gateway.interval_s)
        lines.append(f"metrics to the push gateway at {gateway.url}, every {often} and at the end")
    if cloudwatch is not None:
        often = format_duration(cloudwatch.interval_s)
        place = f"CloudWatch, namespace {cloudwatch.namespace}"
        lines.append(f"metrics to {place}, every {often} and at the end")
    spans = {True: "on", False: "off", None: "where an OTEL_… variable of a process says so"}
    lines.append(f"spans: {spans[config.tracing.enabled]}")
    return lines


def _decoding(table: BronzeTable) -> str:
    """How messages are decoded; a schema in a file of its own is not read for it."""
    if table.format == "raw":
        return "values are kept as they are"
    fast = "decoded in columns by a compiled kernel; what is rare or broken, record by record"
    if not isinstance(table.schema_, Mapping):
        return fast
    fields = parse_schema(dict(table.schema_))
    escaped = written_with_escapes(pa.struct(list(fields)))
    if not escaped:
        return fast
    shown = ", ".join(map(repr, escaped[:3]))
    return f"decoded record by record: no kernel reads names that need an escape in JSON ({shown})"


def _retries(rule: RetryRule) -> str:
    if rule.strategy == "none":
        return "not tried again"
    first, longest = format_duration(rule.initial_s), format_duration(rule.max_s)
    apart = f"{first} apart" if rule.strategy == "fixed" else f"{first} doubling to {longest} apart"
    return f"tried {rule.attempts} times in a row, {apart}"


def _place(config: Pipeline, key: str) -> str:
    table = config.bronze[key]
    if not table.fans_out:
        return table_path(config, f"bronze.{key}")
    return f"one table a topic, {table.path or f'{config.lake}/bronze/{table.table}'}"
