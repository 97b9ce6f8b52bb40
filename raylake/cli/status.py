"""``raylake status``: what a pipeline's run is doing, from its status document."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from raylake.cli.files import load_file, status_file
from raylake.cli.output import (
    AddressOption,
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    printable,
    stdout,
)
from raylake.cli.views import consumers, scaling, span, tables_table, troubles
from raylake.client.jobs_address import cluster_address
from raylake.client.jobs_api import JobsApi
from raylake.client.runs import STALE_S, RunStatus, run_status
from raylake.client.upkeep_status import UpkeepStatus, upkeep_status
from raylake.clock import Clock, SystemClock
from raylake.storage.place import Place

WATCH_S = 1.0
LAST_LINES = 15

app = typer.Typer(add_completion=False)


@app.command()
def status(
    file: FileArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C.")] = False,
    set_: SetOption = None,
    address: AddressOption = None,
    output: OutputOption = Output.text,
) -> None:
    """What a pipeline's run is doing, or how it ended."""
    loaded = load_file(file, set_)
    path = status_file(loaded)
    if address is not None:
        _submitted(JobsApi(cluster_address(address)), loaded.config.pipeline, output)
        return
    clock = SystemClock()
    if output is Output.json:
        found = run_status(path, clock)
        upkeep = upkeep_status(path, found.document)
        print_json({**found.to_dict(), "upkeep": upkeep.to_dict()})
        return
    console = stdout()
    now = partial(_now, path, clock)
    if not watch:
        console.print(now())
        return
    with Live(now(), console=console, auto_refresh=False) as live:
        while True:
            clock.sleep(WATCH_S)
            live.update(now(), refresh=True)


def _now(path: Place, clock: Clock) -> RenderableType:
    found = run_status(path, clock)
    return picture(found, upkeep_status(path, found.document))


def _submitted(jobs: JobsApi, pipeline: str, output: Output) -> None:
    """What the cluster says of the newest job; it may have ended before it came to its lake."""
    submitted = jobs.newest(pipeline)
    state, message, code = jobs.state(submitted)
    said = jobs.log(submitted).splitlines()[-LAST_LINES:] if state == "FAILED" else []
    if output is Output.json:
        job = {"submission_id": submitted, "state": state, "message": message, "exit_code": code}
        print_json({"pipeline": pipeline, "job": {**job, "said": said}})
        return
    console = stdout()
    console.print(f"{submitted}: {state}" + (f": {printable(message, 1000)}" if message else ""))
    for line in said:
        console.print(f"  {printable(line, 1000)}")


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


def picture(found: RunStatus, upkeep: UpkeepStatus | None = None) -> RenderableType:
    """The whole status."""
    style = "bold red" if found.life == "dead" else "bold"
    parts: list[RenderableType] = [Text(headline(found), style=style)]
    if found.life == "dead":
        parts.append(Text("hint: nothing is lost; `raylake run` goes on where the tables stand"))
    parts.append(Text(f"consumers: {consumers(found.document)}{scaling(found.document)}"))
    if upkeep is not None:
        parts.append(Text(f"upkeep: {printable(upkeep.line, 1000)}"))
    submitted = (found.document.get("job") or {}).get("submission_id")
    if submitted:
        parts.append(Text(f"Ray job: {submitted}"))
    if found.document.get("http"):
        parts.append(Text(f"health and metrics: {found.document['http']}"))
    return Group(*parts, tables_table(found.document), *troubles(found.document))
