"""``raylake table convert`` and ``migrate``: folders of Parquet files become Delta tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pyarrow as pa
import typer

from raylake.cli.output import print_json, stdout
from raylake.cli.table_output import (
    TableOutput,
    TableOutputOption,
    json_value,
    print_csv,
    print_fields,
    print_table,
)
from raylake.cli.table_place import FileOption, LakeOption, TableArgument, table_named
from raylake.codecs import parse_schema
from raylake.config.addresses import normalise_table_address
from raylake.config.findings import Invalid
from raylake.errors import ConfigError
from raylake.storage.place import place
from raylake.tables.convert import roll_back_conversion
from raylake.tables.migrate import Migrate, Migrated, migrate, migration, roll_back
from raylake.tables.upkeep_requests import Convert

MOVED: tuple[str, ...] = ("target", "state", "rows", "files", "size_bytes")

PropertyOption = Annotated[
    list[str] | None,
    typer.Option("--property", metavar="KEY=VALUE", help="A Delta property; may be repeated."),
]


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Options of ``raylake table convert``."""

    table: TableArgument
    lake: LakeOption = None
    file: FileOption = None
    partition_by: Annotated[
        str | None,
        typer.Option(
            help="Types of the columns in the folders' names: day:date,hour:int; left out: found.",
            show_default=False,
        ),
    ] = None
    property_: PropertyOption = None
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Take the log of a conversion away again.")
    ] = False
    output: TableOutputOption = TableOutput.table


@dataclass(frozen=True, slots=True)
class MigrateOptions:
    """Options of ``raylake table migrate``."""

    journal: Annotated[
        str, typer.Option(help="A folder for what has been done.", show_default=False)
    ]
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE=TABLE…",
            help="A folder of Parquet files and the table that it becomes; none: go on.",
        ),
    ] = None
    lake: LakeOption = None
    file: FileOption = None
    partition_by: Annotated[
        str | None,
        typer.Option(
            help="Partition columns, commas between; left out: the source's.", show_default=False
        ),
    ] = None
    property_: PropertyOption = None
    validate_only: Annotated[
        bool,
        typer.Option("--validate-only", help="Copy and compare; a later call makes them visible."),
    ] = False
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Take away what the migration made.")
    ] = False
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Take journal and targets from another work, when you know that it has ended.",
        ),
    ] = False
    status: Annotated[bool, typer.Option("--status", help="How far it is; do nothing.")] = False
    output: TableOutputOption = TableOutput.table


def convert(asked: ConvertOptions) -> None:
    """Make a Delta table of a folder of Parquet files, where they are; no file is changed."""
    table = table_named(asked.table, asked.lake, asked.file)
    if asked.rollback:
        roll_back_conversion(place(table.address))
        what: dict[str, Any] = {"table": table.address, "rolled_back": True}
        _print("conversion", what, asked.output)
        return
    kinds = _types(asked.partition_by)
    result = table.run(Convert(kinds, _properties(asked.property_)))
    _print("result", asdict(result), asked.output)


def migrate_tables(asked: MigrateOptions) -> None:
    """Copy folders of Parquet files into Delta tables beside them, compare, then switch."""
    journal = _address(asked.journal)
    given = [
        one for one, is_on in (("--rollback", asked.rollback), ("--status", asked.status)) if is_on
    ]
    if len(given) > 1 or (given and asked.tables):
        raise ConfigError(
            f"migrate: {given[0]} goes with the journal alone", hint="leave the rest out"
        )
    if asked.status:
        found = migration(journal)
    elif asked.rollback:
        found = roll_back(journal, take_over=asked.take_over)
    else:
        found = migrate(
            _requests(asked),
            journal,
            switch=not asked.validate_only,
            take_over=asked.take_over,
        )
    _print_moved(found, asked.output)


def _requests(asked: MigrateOptions) -> list[Migrate]:
    columns = None
    if asked.partition_by is not None:
        columns = tuple(one.strip() for one in asked.partition_by.split(","))
    properties = _properties(asked.property_)
    made = []
    for pair in asked.tables or ():
        source, equals, target = pair.rpartition("=")
        if not equals:
            raise ConfigError(f"migrate: {pair}: no target", hint="write FOLDER=silver.orders")
        address = table_named(target, None if "/" in target else asked.lake, asked.file).address
        made.append(Migrate(_address(source), address, columns, properties))
    return made


def _types(text: str | None) -> pa.Schema | None:
    if text is None:
        return None
    pairs = dict(one.partition(":")[::2] for one in text.split(","))
    return parse_schema({name.strip(): kind.strip() for name, kind in pairs.items()})


def _properties(pairs: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--property {pair}: no value", hint="write KEY=VALUE")
        found[key] = value
    return found


def _address(text: str) -> str:
    try:
        return normalise_table_address(text)
    except Invalid as error:
        found = error.findings[0]
        raise ConfigError(f"{text}: {found.message}", hint=found.hint) from None


def _print(key: str, what: dict[str, Any], output: TableOutput) -> None:
    if output is TableOutput.json:
        print_json({key: json_value(what)})
    elif output is TableOutput.csv:
        print_csv(list(what), [list(what.values())])
    else:
        print_fields(what.items())


def _print_moved(found: Sequence[Migrated], output: TableOutput) -> None:
    lines = [asdict(one) for one in found]
    if output is TableOutput.json:
        print_json({"tables": json_value(lines)})
        return
    values = [[line[name] for name in MOVED] for line in lines]
    if output is TableOutput.csv:
        print_csv(MOVED, values)
    else:
        print_table("", MOVED, values)
        if not lines:
            stdout().print("no tables")
