"""``raylake list``: the pipelines of a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raylake.cli.output import Output, OutputOption, print_json, stdout
from raylake.cli.status import headline
from raylake.client.runs import lake_runs
from raylake.clock import SystemClock

app = typer.Typer(add_completion=False)

LakeArgument = Annotated[Path, typer.Argument(help="The lake's folder.", show_default=False)]


@app.command("list")
def listing(lake: LakeArgument, output: OutputOption = Output.text) -> None:
    """The newest run of every pipeline of a lake, and whether it lives."""
    runs = lake_runs(lake, SystemClock())
    if output is Output.json:
        print_json({"runs": [found.to_dict() for found in runs.values()]})
        return
    console = stdout()
    for found in runs.values():
        console.print(headline(found))
