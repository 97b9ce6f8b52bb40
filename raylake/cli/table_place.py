"""Where the table lies that a command names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raylake.client.lake import Lake, connect, table_at
from raylake.client.lake_table import Table
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError
from raylake.tables.versions import missing

TableArgument = Annotated[
    str,
    typer.Argument(
        metavar="TABLE", help="layer.name, such as silver.orders; or a table's address."
    ),
]
LakeOption = Annotated[
    str | None, typer.Option("--lake", help="The lake's folder or address.", show_default=False)
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        help="A pipeline file: its lake, and how stores are reached.",
        show_default=False,
    ),
]


def table_named(table: str, lake: str | None, file: Path | None) -> Table:
    """The table that a command line names; it need not be there.

    Raises:
        ConfigError: It says not where the table lies, or says it twice.
    """
    found = _lake(table, lake, file)
    return table_at(table) if "/" in table or found is None else found.table(table)


def table_there(table: str, lake: str | None, file: Path | None) -> Table:
    """The table that a command line names, which is there.

    Raises:
        ConfigError: As :func:`table_named`.
        TableMissing: It is not there.
    """
    found = _lake(table, lake, file)
    if "/" not in table and found is not None:
        return found.require(table)
    at = table_at(table)
    if not is_table(at.address):
        raise missing(at.address)
    return at


def _lake(table: str, lake: str | None, file: Path | None) -> Lake | None:
    """The lake that is named, whose stores are known from here on; None where an address is."""
    if lake is not None and file is not None:
        raise ConfigError("both --lake and --file are given", hint="give one of them")
    if "/" in table and lake is not None:
        raise ConfigError(
            f"{table} is an address, and --lake is given", hint="write layer.name with --lake"
        )
    if "/" not in table and lake is None and file is None:
        raise ConfigError(
            f"{table}: in which lake?", hint="--lake ./lake, or --file with a pipeline file"
        )
    if file is not None:
        return Lake.from_pipeline(file)
    return None if lake is None else connect(lake)
