"""``raylake quarantine``: rows that rules turned away, and how they come back."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from raylake.cli.files import load_file, placed
from raylake.cli.options import taking
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption, print_json, stdout
from raylake.cli.table_output import json_value, print_table
from raylake.cli.transform import require_derived
from raylake.client.shown import printable
from raylake.layers.graph import graph_of

WhereOption = Annotated[
    str | None,
    typer.Option(
        help="Only rows of the quarantine that this holds for: \"rule = 'range(amount)'\".",
        show_default=False,
    ),
]

app = typer.Typer(
    add_completion=False,
    help="Quarantined rows: show and replay them.",
    no_args_is_help=True,
)


@app.command()
def show(
    file: FileArgument,
    table: Annotated[
        str | None,
        typer.Argument(
            help="layer.name, such as silver.orders; left out: all.", show_default=False
        ),
    ] = None,
    where: WhereOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many rows.")] = 20,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """The rows that are open, the newest first, and why they were set aside."""
    loaded = load_file(file, set_)
    if table is not None:
        require_derived(table, graph_of(loaded.config))
    client = importlib.import_module("raylake.client.quarantine")
    found = client.held_rows(loaded.config, table, where)
    shown = list(found)[:limit]
    if output is Output.json:
        rows = [json_value(asdict(one)) for one in shown]
        print_json({"open": len(found), "rows": rows})
        return
    if not found:
        stdout().print("no open row in the quarantine" + (" that this holds for" if where else ""))
        return
    names = client.COLUMNS
    print_table("", names, [[getattr(one, name) for name in names] for one in shown])
    if len(found) > len(shown):
        stdout().print(f"{len(found) - len(shown):,} more; --limit shows them")


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Options of ``raylake quarantine replay``."""

    file: FileArgument
    table: Annotated[str, typer.Argument(help="layer.name, such as silver.orders.")]
    where: WhereOption = None
    preview: Annotated[
        bool, typer.Option("--preview", help="Say what would happen; nothing is changed.")
    ] = False
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster that writes the table where no run does; without it RAY_ADDRESS's, "
            "or an embedded one.",
            show_default=False,
        ),
    ] = None
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that a run may take for it, where one runs.")
    ] = 60.0
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("replay")
@taking(ReplayOptions)
def replay(asked: ReplayOptions) -> None:
    """Rows once more through today's rules into their table, once; what fails again stays.

    Beside a run that brings the table up to date, that one does it.
    """
    loaded = load_file(asked.file, asked.set_)
    require_derived(asked.table, graph_of(loaded.config))
    client = importlib.import_module("raylake.client.quarantine")
    with placed(loaded):
        done = client.replay_rows(
            loaded.config,
            asked.table,
            client.Asked(asked.where, asked.preview),
            client.Service(asked.address, timeout_s=asked.timeout),
        )
    if asked.output is Output.json:
        print_json({**json_value(done.document()), "preview": asked.preview})
        return
    _tell(done, preview=asked.preview)


def _tell(done: Any, *, preview: bool) -> None:
    console = stdout()
    if not done.selected:
        console.print(f"{done.table}: no open row in the quarantine is selected; nothing to replay")
        return
    tried = done.passed + done.rejected
    console.print(f"{done.table}: {done.selected:,} open entries selected, of {tried:,} rows")
    verb = "would pass" if preview else "passed, and are in the table as its rules have it"
    console.print(f"  {done.passed:,} {verb}")
    again = "would fail again" if preview else "failed again and stay in the quarantine"
    console.print(f"  {done.rejected:,} {again}")
    for why, count in done.reasons.items():
        console.print(f"    {count:,}: {printable(why, 600)}")
    for why, count in done.kept.items():
        console.print(f"  {count:,} not tried, and stay: {printable(why, 600)}")
    if preview:
        console.print("nothing was written")
    elif done.version is not None:
        console.print(f"  replay {done.number}, version {done.version} of {done.table}")
