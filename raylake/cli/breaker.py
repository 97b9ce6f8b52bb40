"""``raylake breaker``: see, open and close circuit breakers of a run by hand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from raylake.cli.files import load_file, status_file
from raylake.cli.options import taking
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    printable,
    stdout,
)
from raylake.client.orders import ORDER_TIMEOUT_S, breakers_of, give_order
from raylake.client.run_view import moment
from raylake.client.runs import run_status
from raylake.clock import SystemClock
from raylake.errors import ConfigError

app = typer.Typer(
    add_completion=False,
    help="Circuit breakers of a run: list, trip and reset them.",
    no_args_is_help=True,
)


class Dependency(StrEnum):
    """What a breaker stands in front of."""

    broker = "broker"
    store = "store"
    dead_letters = "dead_letters"
    poison = "poison"


DependencyOption = Annotated[
    Dependency | None, typer.Option("--dependency", help="What it stands in front of.")
]
TableOption = Annotated[str | None, typer.Option(help="Only this table's, such as bronze.orders.")]
PartitionOption = Annotated[
    str | None, typer.Option(help="Only this partition's (poison), such as orders/0.")
]
TimeoutOption = Annotated[float, typer.Option(help="Seconds to wait for the run's answer.")]


@app.command("list")
def listing(file: FileArgument, set_: SetOption = None, output: OutputOption = Output.text) -> None:
    """Every breaker that the run tells of, the worst state of each over its processes."""
    found = run_status(status_file(load_file(file, set_)), SystemClock())
    breakers = breakers_of(found.document)
    if output is Output.json:
        print_json({"life": found.life, "age_s": round(found.age_s, 1), "breakers": breakers})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("breaker", "state", "since", "reason"):
        table.add_column(head)
    for one in breakers:
        since = moment(one["since"]) if one["since"] else ""
        table.add_row(printable(one["name"]), one["state"], since, printable(one["reason"]))
    stdout().print(table)


@dataclass(frozen=True, slots=True)
class TripOptions:
    """What the command is given."""

    file: FileArgument
    dependency: Annotated[Dependency, typer.Option(help="What it stands in front of.")]
    table: TableOption = None
    partition: PartitionOption = None
    reason: Annotated[str, typer.Option(help="Shown wherever the breaker is.")] = "no reason given"
    timeout: TimeoutOption = ORDER_TIMEOUT_S
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("trip")
@taking(TripOptions)
def trip(given: TripOptions) -> None:
    """Open breakers until `raylake breaker reset`, over restarts too.

    Without --table and --partition all of that dependency. `poison` stops a partition of a table;
    `store` and `dead_letters` stop a table's writes; `broker` stops reading.
    """
    arguments = {
        "dependency": given.dependency.value,
        "table": given.table,
        "partition": given.partition,
        "reason": given.reason,
    }
    path = status_file(load_file(given.file, given.set_))
    said = give_order(path, "breaker.trip", arguments, SystemClock(), given.timeout)
    _tell("open until reset", said["breakers"], given.output)


@dataclass(frozen=True, slots=True)
class ResetOptions:
    """What the command is given."""

    file: FileArgument
    dependency: DependencyOption = None
    table: TableOption = None
    partition: PartitionOption = None
    every: Annotated[bool, typer.Option("--all", help="Every breaker of the run.")] = False
    timeout: TimeoutOption = ORDER_TIMEOUT_S
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("reset")
@taking(ResetOptions)
def reset(given: ResetOptions) -> None:
    """Close breakers, whoever opened them; a fault that goes on opens them again."""
    if given.every == (given.dependency is not None):
        raise ConfigError("which breakers?", hint="give either --dependency or --all")
    arguments = {
        "dependency": None if given.dependency is None else given.dependency.value,
        "table": given.table,
        "partition": given.partition,
    }
    path = status_file(load_file(given.file, given.set_))
    said = give_order(path, "breaker.reset", arguments, SystemClock(), given.timeout)
    _tell("closed", said["breakers"], given.output)


def _tell(what: str, names: list[str], output: Output) -> None:
    if output is Output.json:
        print_json({"breakers": names})
        return
    for name in names:
        stdout().print(f"{printable(name)}: {what}")
