"""``raylake maintain``: what tables need, and what it would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from raylake.cli.output import Output, OutputOption, print_json, stdout
from raylake.client.lake import Lake, connect, table_at
from raylake.config import Pipeline, load
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError, RayLakeError
from raylake.maintenance.kept_state import kept_at
from raylake.maintenance.plan import plan
from raylake.maintenance.policy import Policy, policy_of
from raylake.maintenance.told import as_data, in_words
from raylake.near import did_you_mean
from raylake.storage.place import Place, place
from raylake.tables.versions import missing

app = typer.Typer(add_completion=False, help="Upkeep of tables: plan.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Upkeep of tables: what is due, and its price."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A table that a plan is wanted of.

    Attributes:
        at: Where its state is kept; None: a table outside of a lake leaves nothing behind.
    """

    name: str
    address: str
    policy: Policy
    at: Place | None


@app.command("plan")
def plan_upkeep(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_FILE", help="A pipeline file, a lake, or a table's address."
        ),
    ],
    table: Annotated[
        str | None, typer.Option(help="Only this table: layer.name.", show_default=False)
    ] = None,
    zorder: Annotated[
        str | None,
        typer.Option(help="Columns of the Z-order, with commas between.", show_default=False),
    ] = None,
    output: OutputOption = Output.text,
) -> None:
    """What is due, on which files, what it would read, write and save. Nothing is changed."""
    asked = _chosen(_asked(target), target, table, zorder)
    failed: RayLakeError | None = None
    shown: list[dict[str, Any]] = []
    for one in asked:
        try:
            found = plan(one.address, one.policy, at=one.at)
        except RayLakeError as error:
            if len(asked) == 1:
                raise
            failed = failed or error
            shown.append({"table": one.name, "address": one.address, "error": error.to_dict()})
            continue
        if output is Output.text:
            for line in in_words(one.name, found):
                stdout().print(line)
        shown.append(as_data(one.name, one.address, found))
    if output is Output.json:
        print_json({"tables": shown})
    elif not shown:
        stdout().print("there is no table yet")
    if failed is not None:
        raise failed


def _asked(target: str) -> list[_Asked]:
    """The tables that a command line means, each with its policy.

    Raises:
        ConfigError: The pipeline file is wrong.
        TableMissing: There is no table.
    """
    if Path(target).is_file():
        return _of_file(Path(target))
    single = table_at(target)
    if is_table(single.address):
        return [_Asked(single.name, single.address, Policy(), None)]
    lake = connect(target)
    found = _of_lake(lake)
    if not found:
        raise missing(single.address)
    return found


def _of_lake(lake: Lake) -> list[_Asked]:
    return [
        _Asked(one.name, one.address, Policy(), kept_at(place(lake.where), one.name))
        for one in lake.tables()
    ]


def _of_file(file: Path) -> list[_Asked]:
    config = load(file).config
    found = []
    for one in _of_lake(Lake.from_pipeline(file)):
        layer, _, short = one.name.partition(".")
        section: Mapping[str, Any] = getattr(config, layer, {})
        if short in section or (layer == "bronze" and _fans_out(config)):
            columns = getattr(section.get(short), "zorder_by", ())
            policy = policy_of(config.maintenance, one.name, tuple(columns))
            found.append(replace(one, policy=policy))
    return found


def _fans_out(config: Pipeline) -> bool:
    return any(one.fans_out for one in config.bronze.values())


def _chosen(
    asked: list[_Asked], target: str, table: str | None, zorder: str | None
) -> list[_Asked]:
    if table is not None:
        names = [one.name for one in asked]
        if table not in names:
            raise ConfigError(f"{target} has no table {table}", hint=did_you_mean(table, names))
        asked = [one for one in asked if one.name == table]
    if zorder is not None:
        if len(asked) != 1:
            raise ConfigError("--zorder is for one table", hint="name it: --table layer.name")
        columns = tuple(name.strip() for name in zorder.split(","))
        asked = [replace(asked[0], policy=replace(asked[0].policy, zorder=columns))]
    return asked
