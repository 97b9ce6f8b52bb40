"""``raylake stop-all``: drain every pipeline of a lake."""

from __future__ import annotations

from typing import Annotated

import typer

from raylake.cli.listing import LakeArgument
from raylake.cli.output import Output, OutputOption, print_json, stdout
from raylake.cli.status import headline
from raylake.client.runs import stop_all
from raylake.clock import SystemClock

app = typer.Typer(add_completion=False)


@app.command("stop-all")
def stop_everything(
    lake: LakeArgument,
    timeout: Annotated[float, typer.Option(help="Seconds to wait, for all of them.")] = 90.0,
    output: OutputOption = Output.text,
) -> None:
    """Drain every pipeline of a lake that runs on this machine, all at the same time."""
    ended = stop_all(lake, timeout, SystemClock())
    if output is Output.json:
        print_json({"runs": [found.to_dict() for found in ended]})
        return
    console = stdout()
    for found in ended:
        console.print(headline(found))
    if not ended:
        console.print("nothing runs on this machine")
