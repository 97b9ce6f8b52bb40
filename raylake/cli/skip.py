"""``raylake skip``: leave offsets out, counted as dropped."""

from __future__ import annotations

from typing import Annotated

import typer

from raylake.cli.files import load_file, placed
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption
from raylake.cli.positions import DryRunOption, TableName, ToOption, offsets_of, tell
from raylake.client.position_orders import skip
from raylake.clock import SystemClock

app = typer.Typer(add_completion=False)


@app.command("skip")
def command(
    file: FileArgument,
    table: TableName,
    to: ToOption,
    reason: Annotated[str, typer.Option(help="Why; kept in the commit.")] = "",
    dry_run: DryRunOption = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Leave out what a table has not read yet, up to given offsets.

    One commit that counts them as dropped, so that the account still balances. They are not read
    again unless `raylake rewind` moves back.
    """
    loaded = load_file(file, set_)
    ends = offsets_of(to)
    with placed(loaded):
        done = skip(loaded, table, ends, SystemClock(), reason=reason, dry_run=dry_run)
    tell(done, output)
