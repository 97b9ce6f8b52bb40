"""``raylake table pin, unpin, pins, vacuum, repair``: what stays readable, and what is deleted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from raylake.cli.output import stdout
from raylake.cli.table_output import (
    TableOutput,
    TableOutputOption,
    print_lines,
    print_one,
)
from raylake.cli.table_place import FileOption, LakeOption, TableArgument, table_there
from raylake.client.lake_upkeep import PIN_COLUMNS
from raylake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PinOptions:
    """Options of ``raylake table pin``."""

    table: TableArgument
    until: Annotated[str, typer.Option(help="A time with a zone: 2027-01-31T12:00:00Z.")]
    lake: LakeOption = None
    file: FileOption = None
    version: Annotated[
        int | None, typer.Option(min=0, help="The version; else the newest.", show_default=False)
    ] = None
    name: Annotated[
        str | None, typer.Option(help="The pin's name; else v and the version.", show_default=False)
    ] = None
    output: TableOutputOption = TableOutput.table


def pin(asked: PinOptions) -> None:
    """Keep a version readable until a time, whatever vacuum and log clean-up would take."""
    found = table_there(asked.table, asked.lake, asked.file)
    made = found.pin(asked.until, version=asked.version, name=asked.name)
    print_one("pin", {"table": found.name, **asdict(made)}, asked.output)


def unpin(
    table: TableArgument,
    name: Annotated[str, typer.Argument(metavar="PIN", help="The pin's name.")],
    lake: LakeOption = None,
    file: FileOption = None,
) -> None:
    """Keep a version no longer."""
    found = table_there(table, lake, file)
    if not found.unpin(name):
        known = ", ".join(one.name for one in found.pins()) or "there is none"
        raise ConfigError(f"{found.name} has no pin {name!r}", hint=f"pins: {known}")
    stdout().print(f"{found.name}: pin {name} is gone")


def pins(
    table: TableArgument,
    lake: LakeOption = None,
    file: FileOption = None,
    output: TableOutputOption = TableOutput.table,
) -> None:
    """The versions that are kept, and how long."""
    found = table_there(table, lake, file)
    lines = [asdict(one) for one in found.pins()]
    print_lines(found.name, PIN_COLUMNS, lines, output, key="pins")


@dataclass(frozen=True, slots=True)
class VacuumOptions:
    """Options of ``raylake table vacuum``."""

    table: TableArgument
    lake: LakeOption = None
    file: FileOption = None
    retention_hours: Annotated[
        float | None,
        typer.Option(
            help="How long versions stay readable; else what the table says, and at least 168.",
            show_default=False,
        ),
    ] = None
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Also files that were never committed.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would delete, and delete nothing.")
    ] = False
    force: Annotated[
        bool,
        typer.Option("--force", help="Lets the retention be below 168 hours; says what breaks."),
    ] = False
    break_holds: Annotated[
        bool,
        typer.Option("--break-holds", help="With --force: also what readers and pins hold."),
    ] = False
    output: TableOutputOption = TableOutput.table


def vacuum(asked: VacuumOptions) -> None:
    """Delete files that no version within the retention, no reader and no pin needs."""
    if asked.break_holds and not asked.force:
        raise ConfigError(
            "--break-holds takes versions from readers and pins",
            hint="add --force if that is meant",
        )
    found = table_there(asked.table, asked.lake, asked.file)
    done = found.vacuum(
        asked.retention_hours,
        dry_run=asked.dry_run,
        orphans=asked.orphans,
        force=asked.force,
        break_holds=asked.break_holds,
    )
    print_one("result", {**asdict(done), "dry_run": asked.dry_run}, asked.output)


def repair(
    table: TableArgument,
    lake: LakeOption = None,
    file: FileOption = None,
    output: TableOutputOption = TableOutput.table,
) -> None:
    """Put damaged checkpoints aside where the log is whole without them, and write a new one."""
    found = table_there(table, lake, file)
    print_one("result", asdict(found.repair()), output)
