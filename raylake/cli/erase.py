"""``raylake erase``: a person's rows leave all layers, and what held them; a receipt says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from raylake.cli.files import load_file, placed
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
from raylake.cli.table_output import print_table
from raylake.client.erasing import EraseOrder, erase
from raylake.client.erasure_receipt import Receipt
from raylake.client.quarantine import Service
from raylake.errors import Refused

AddressOption = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster that writes tables which have an owner; without it RAY_ADDRESS's, or "
        "an embedded one.",
        show_default=False,
    ),
]

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class EraseOptions:
    """Options of ``raylake erase``."""

    file: FileArgument
    where: Annotated[
        str, typer.Option(metavar="CONDITION", help="The rows: \"customer_id = 'x'\".")
    ]
    run: Annotated[bool, typer.Option("--run", help="Do it; without it nothing is changed.")] = (
        False
    )
    force: Annotated[
        bool,
        typer.Option("--force", help="Also versions that readers and pins hold: they break."),
    ] = False
    show_predicate: Annotated[
        bool,
        typer.Option("--show-predicate", help="The receipt has the condition, not its hash alone."),
    ] = False
    and_logs: Annotated[
        bool,
        typer.Option(
            "--and-logs",
            help="The tables' logs too, with their bounds of columns and conditions: no older "
            "version can be read any more.",
        ),
    ] = False
    address: AddressOption = None
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("erase")
@taking(EraseOptions)
def command(asked: EraseOptions) -> None:
    """Rows leave bronze, silver, gold, quarantine and dead letters, and the files that held them.

    Without --run it counts them by table and changes nothing. The files are deleted whatever their
    age, so older versions that have them can no longer be read. What was cut off is gone on with
    by the same command.
    """
    loaded = load_file(asked.file, asked.set_)
    order = EraseOrder(
        asked.where, not asked.run, asked.force, asked.show_predicate, asked.and_logs
    )
    with placed(loaded):
        done = erase(loaded, order, Service(asked.address))
    if asked.output is Output.json:
        print_json({"erasure": done.to_dict()})
    else:
        _tell(done)
    if asked.run and not done.complete:
        raise Refused(
            f"erasure {done.erasure_id} is not complete: {done.left[0]}",
            hint="give the same order again when that is settled; what is done stays done",
        )


def _tell(done: Receipt) -> None:
    heads = ("table", "rows", "old files", "bytes", "log files", "versions lost", "searched")
    lines = [
        (
            one.table,
            one.rows,
            len(one.files_removed),
            one.bytes_removed,
            one.log_files_removed,
            one.versions_lost,
            one.searched,
        )
        for one in done.tables.values()
    ]
    print_table("", heads, lines)
    for one in done.left:
        stdout().print(f"left: {printable(one, 600)}")
    if done.dry_run:
        stdout().print(
            "nothing was changed; files that the rows leave are deleted too. --run does it"
        )
    else:
        stdout().print(f"erasure {done.erasure_id}: {done.rows:,} rows and letters")
