"""``raylake status``: what a pipeline's run is doing, from its status document."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from raylake.cli.files import load_file, status_file
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption, print_json, stdout
from raylake.cli.views import consumers, span, tables_table, troubles
from raylake.client.runs import STALE_S, RunStatus, run_status
from raylake.clock import SystemClock

WATCH_S = 1.0

app = typer.Typer(add_completion=False)


@app.command()
def status(
    file: FileArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C.")] = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """What a pipeline's run is doing, or how it ended."""
    path = status_file(load_file(file, set_))
    clock = SystemClock()
    if output is Output.json:
        print_json(run_status(path, clock).to_dict())
        return
    console = stdout()
    found = run_status(path, clock)
    if not watch:
        console.print(picture(found))
        return
    with Live(picture(found), console=console, auto_refresh=False) as live:
        while True:
            clock.sleep(WATCH_S)
            live.update(picture(run_status(path, clock)), refresh=True)


def headline(found: RunStatus) -> str:
    """The run, its state, and how old the document is."""
    document = found.document
    state = str(document.get("state"))
    if found.life == "dead":
        state = f"DEAD: the document says {state!r}, and process {found.pid} is gone"
    elif found.life == "elsewhere":
        state = f"{state} on host {document.get('job', {}).get('host')}"
        if found.age_s > STALE_S:
            state += ", silent for long"
    return (
        f"{document.get('pipeline')}: {state} "
        f"(run {document.get('run_id')}, written {span(found.age_s)} ago)"
    )


def picture(found: RunStatus) -> RenderableType:
    """The whole status."""
    style = "bold red" if found.life == "dead" else "bold"
    parts: list[RenderableType] = [Text(headline(found), style=style)]
    if found.life == "dead":
        parts.append(Text("hint: nothing is lost; `raylake run` goes on where the tables stand"))
    parts.append(Text(f"consumers: {consumers(found.document)}"))
    if found.document.get("http"):
        parts.append(Text(f"health and metrics: {found.document['http']}"))
    return Group(*parts, tables_table(found.document), *troubles(found.document))
