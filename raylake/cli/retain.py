"""``raylake retain``: rows that are older than a table's ``retain`` leave it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from raylake.cli.erase import AddressOption
from raylake.cli.files import load_file, placed
from raylake.cli.options import taking
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption, print_json, stdout
from raylake.cli.table_output import print_table
from raylake.client.quarantine import Service
from raylake.client.retention import retain_tables
from raylake.errors import Terminal

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class RetainOptions:
    """Options of ``raylake retain``."""

    file: FileArgument
    table: Annotated[
        str | None, typer.Option(help="Only this table: layer.name.", show_default=False)
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; nothing is changed.")] = (
        False
    )
    address: AddressOption = None
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("retain")
@taking(RetainOptions)
def command(asked: RetainOptions) -> None:
    """Delete rows that are older than `retain` says, under each table's owner."""
    loaded = load_file(asked.file, asked.set_)
    by = Service(asked.address)
    with placed(loaded):
        done = retain_tables(loaded.config, table=asked.table, dry_run=asked.dry_run, by=by)
    if asked.output is Output.json:
        print_json({"dry_run": asked.dry_run, "tables": [asdict(one) for one in done]})
    elif not done:
        stdout().print("no table that is there has `retain`")
    else:
        heads = ("table", "older than", "by", "rows", "version")
        print_table("", heads, [(o.table, o.before, o.column, o.rows, o.version) for o in done])
    failed = [one for one in done if one.error is not None]
    if failed:
        said = "; ".join(f"{one.table}: {(one.error or {}).get('message')}" for one in failed)
        raise Terminal(f"{len(failed)} of {len(done)} tables failed: {said}")
