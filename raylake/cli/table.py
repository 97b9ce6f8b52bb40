"""``raylake table``: what a table is, was and holds, and putting it back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from raylake.cli.options import taking
from raylake.cli.output import print_json, stderr, stdout
from raylake.cli.table_moves import ConvertOptions, MigrateOptions, convert, migrate_tables
from raylake.cli.table_output import (
    TableOutput,
    TableOutputOption,
    columns_of,
    json_value,
    print_csv,
    print_fields,
    print_lines,
    print_one,
    print_table,
)
from raylake.cli.table_place import FileOption, LakeOption, TableArgument, table_there
from raylake.cli.table_upkeep import (
    PinOptions,
    VacuumOptions,
    pin,
    pins,
    repair,
    unpin,
    vacuum,
)
from raylake.client.lake_table import HISTORY_COLUMNS, VERSION_COLUMNS, Table
from raylake.client.rows import Rows
from raylake.client.table_leases import READER_COLUMNS
from raylake.errors import ConfigError

MAX_ROWS = 100_000

app = typer.Typer(
    add_completion=False,
    help="Tables: show, history, readers, read, changes, restore, pin, vacuum, repair, convert, "
    "migrate.",
    no_args_is_help=True,
)

VersionOption = Annotated[
    int | None, typer.Option(help="At this version.", min=0, show_default=False)
]
AtOption = Annotated[
    str | None,
    typer.Option(help="At this time, with a zone: 2026-01-31T12:00:00Z.", show_default=False),
]
LimitOption = Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="At most so many rows.")]
ColumnsOption = Annotated[
    str | None,
    typer.Option(help="Only these, with commas between, in this order.", show_default=False),
]
WhereOption = Annotated[
    str | None,
    typer.Option(help="Only rows that this holds for: \"country = 'NO'\".", show_default=False),
]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options of ``raylake table read``."""

    table: TableArgument
    lake: LakeOption = None
    file: FileOption = None
    where: WhereOption = None
    columns: ColumnsOption = None
    version: VersionOption = None
    at: AtOption = None
    limit: LimitOption = 20
    output: TableOutputOption = TableOutput.table


@dataclass(frozen=True, slots=True)
class ChangesOptions:
    """Options of ``raylake table changes``."""

    table: TableArgument
    lake: LakeOption = None
    file: FileOption = None
    from_version: Annotated[
        int | None, typer.Option(help="From this version on.", min=0, show_default=False)
    ] = None
    to_version: Annotated[
        int | None, typer.Option(help="Up to this version.", min=0, show_default=False)
    ] = None
    from_time: Annotated[
        str | None, typer.Option(help="From this time on, with a zone.", show_default=False)
    ] = None
    to_time: Annotated[
        str | None, typer.Option(help="Up to this time, with a zone.", show_default=False)
    ] = None
    ignore_deletes: Annotated[
        bool, typer.Option("--ignore-deletes", help="Leave deleted rows out.")
    ] = False
    ignore_changes: Annotated[
        bool, typer.Option("--ignore-changes", help="Inserted rows alone.")
    ] = False
    limit: LimitOption = 20
    output: TableOutputOption = TableOutput.table


@app.command()
def show(
    table: TableArgument,
    lake: LakeOption = None,
    file: FileOption = None,
    versions: Annotated[
        bool, typer.Option("--versions", help="The versions that can be read, and until when.")
    ] = False,
    limit: LimitOption = 20,
    output: TableOutputOption = TableOutput.table,
) -> None:
    """What a table is now: version, columns, files, rows; or which versions can be read."""
    found = table_there(table, lake, file)
    if versions:
        lines = [asdict(one) for one in found.versions(limit)]
        print_lines(found.name, VERSION_COLUMNS, lines, output)
        return
    what = asdict(found.describe())
    if output is TableOutput.json:
        print_json({"table": json_value(what)})
    elif output is TableOutput.csv:
        print_csv(("column", "type"), what["columns"].items())
    else:
        columns = what.pop("columns")
        print_fields(what.items())
        print_table("", ("column", "type"), columns.items())


@app.command()
def history(
    table: TableArgument,
    lake: LakeOption = None,
    file: FileOption = None,
    limit: LimitOption = 20,
    output: TableOutputOption = TableOutput.table,
) -> None:
    """What was done to a table, newest first."""
    found = table_there(table, lake, file)
    lines = [asdict(one) for one in found.history(limit)]
    print_lines(found.name, HISTORY_COLUMNS, lines, output)


@app.command()
def readers(
    table: TableArgument,
    lake: LakeOption = None,
    file: FileOption = None,
    output: TableOutputOption = TableOutput.table,
) -> None:
    """Who reads a table bit by bit: how far each has come, and until when that is kept."""
    found = table_there(table, lake, file)
    lines = [asdict(one) for one in found.readers()]
    print_lines(found.name, READER_COLUMNS, lines, output, key="readers")


@app.command("read")
@taking(ReadOptions)
def read(asked: ReadOptions) -> None:
    """Rows of one version; their order is not given."""
    found = table_there(asked.table, asked.lake, asked.file)
    columns = None if asked.columns is None else [c.strip() for c in asked.columns.split(",")]
    rows = found.read(asked.where, columns, version=asked.version, at=asked.at)
    _print_rows(found, rows, {"version": rows.version}, asked.limit, asked.output)


@app.command("changes")
@taking(ChangesOptions)
def changes(asked: ChangesOptions) -> None:
    """Rows as they were inserted, updated and deleted in a range of versions."""
    found = table_there(asked.table, asked.lake, asked.file)
    rows = found.changes(
        from_version=asked.from_version,
        to_version=asked.to_version,
        from_time=asked.from_time,
        to_time=asked.to_time,
        ignore_deletes=asked.ignore_deletes,
        ignore_changes=asked.ignore_changes,
    )
    names = ("from_version", "from_time", "to_version", "to_time")
    asked_range = {name: getattr(rows.request, name) for name in names}
    said = {name: value for name, value in asked_range.items() if value is not None}
    _print_rows(found, rows, said, asked.limit, asked.output)


@app.command()
def restore(
    table: TableArgument,
    lake: LakeOption = None,
    file: FileOption = None,
    version: VersionOption = None,
    at: AtOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")
    ] = False,
    output: TableOutputOption = TableOutput.table,
) -> None:
    """Make a table again what it was, as a new version; nothing is lost by it."""
    found = table_there(table, lake, file)
    if version is None and at is None:
        raise ConfigError(
            "restore: which version?", hint="--version N or --at TIME; `raylake table history`"
        )
    if dry_run:
        plan = asdict(found.plan_restore(version, at=at))
        print_one("plan", {"table": found.name, **plan, "dry_run": True}, output)
        return
    result = asdict(found.restore(version, at=at))
    print_one("result", result, output)


app.command("pin")(taking(PinOptions)(pin))
app.command("unpin")(unpin)
app.command("pins")(pins)
app.command("vacuum")(taking(VacuumOptions)(vacuum))
app.command("repair")(repair)
app.command("convert")(taking(ConvertOptions)(convert))
app.command("migrate")(taking(MigrateOptions)(migrate_tables))


def _print_rows(
    table: Table, rows: Rows, said: dict[str, Any], limit: int, output: TableOutput
) -> None:
    found = rows.head(limit + 1)
    more = found.num_rows > limit
    shown = found.slice(0, limit)
    lines = shown.to_pylist()
    if output is TableOutput.json:
        document = {"table": table.name, **said, "columns": columns_of(shown.schema)}
        print_json({**document, "rows": json_value(lines), "more": more})
        return
    values = [list(line.values()) for line in lines]
    if output is TableOutput.csv:
        print_csv(shown.schema.names, values)
    else:
        print_table(rows.title, shown.schema.names, values)
        if not lines:
            stdout().print("no rows")
    if more:
        stderr().print(f"more rows are there; --limit takes up to {MAX_ROWS:,}")
