"""``raylake stop``: drain a run from another terminal."""

from __future__ import annotations

from typing import Annotated

import typer

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
from raylake.cli.status import headline
from raylake.cli.views import committed_last
from raylake.client.jobs_address import cluster_address
from raylake.client.jobs_api import JobsApi, stop_submitted
from raylake.client.runs import stop_run
from raylake.clock import SystemClock

MARGIN_S = 15.0

app = typer.Typer(add_completion=False)


@app.command()
def stop(
    file: FileArgument,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds to wait; default: `ingest.drain_timeout` and 15 s."),
    ] = None,
    set_: SetOption = None,
    address: AddressOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Drain a pipeline that runs on this machine, or on a cluster that it was submitted to.

    What was fetched is committed, the tables are released, and the run ends with 0. Says what was
    committed last.
    """
    loaded = load_file(file, set_)
    timeout_s = loaded.config.ingest.drain_timeout_s + MARGIN_S if timeout is None else timeout
    found = None
    if address is None:
        found = stop_run(status_file(loaded), timeout_s, SystemClock())
    else:
        jobs = JobsApi(cluster_address(address))
        pipeline, path = loaded.config.pipeline, status_file(loaded)
        submitted, found = stop_submitted(jobs, pipeline, path, timeout_s, SystemClock())
        if found is None:
            _without_lake(submitted, jobs.state(submitted)[0], output)
            return
    if output is Output.json:
        print_json(found.to_dict())
        return
    console = stdout()
    console.print(headline(found))
    left = found.document.get("error")
    if left:
        console.print(f"{printable(left['message'], 1000)}\nhint: {printable(left['hint'], 1000)}")
    for line in committed_last(found.document):
        console.print(line)


def _without_lake(submitted: str, state: str, output: Output) -> None:
    if output is Output.json:
        print_json({"submission_id": submitted, "state": state})
    else:
        stdout().print(f"{submitted}: {state}; the lake does not show its run from here")
    if state not in ("SUCCEEDED", "STOPPED"):
        raise typer.Exit(1)
