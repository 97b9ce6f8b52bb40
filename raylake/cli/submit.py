"""``raylake submit``: the pipeline as a Ray job on a cluster."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from raylake.cli.files import load_file, status_file
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    stdout,
)
from raylake.client.runs import refuse_second_run
from raylake.client.submission import JobsApi, Submission, cluster_address
from raylake.clock import SystemClock
from raylake.ingest.plan import new_run_id

app = typer.Typer(add_completion=False)


@app.command()
def submit(
    file: FileArgument,
    address: Annotated[
        str | None, typer.Option(help="The cluster, as http://head:8265; default: RAY_ADDRESS.")
    ] = None,
    available_now: Annotated[
        bool, typer.Option("--available-now", help="Stop at the ends seen at the start.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Do not wait for an owner that may be alive.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plain `ray job submit` line.")
    ] = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Run a pipeline as a Ray job; returns as soon as the cluster has it.

    Ray's own RAY_ADDRESS and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) count. RayLake
    is installed on the cluster's nodes, in the image.
    """
    loaded = load_file(file, set_)
    one = Submission(
        loaded,
        cluster_address(address),
        new_run_id(),
        available_now,
        take_over,
        tuple(set_ or ()),
        os.environ,
    )
    if dry_run:
        _tell(one, {"line": one.line()}, output, one.line())
        return
    if not take_over:
        refuse_second_run(status_file(loaded), loaded.config.pipeline, SystemClock())
    jobs = JobsApi(one.address)
    submitted = jobs.submit(one)
    text = (
        f"submitted: {submitted}\n"
        f"raylake status {file}; raylake stop {file} --address {one.address}; raylake logs {file}\n"
        f"what the job itself prints: ray job logs {submitted}"
    )
    _tell(one, {"state": "SUBMITTED"}, output, text)


def _tell(one: Submission, found: dict[str, Any], output: Output, text: str) -> None:
    if output is Output.text:
        stdout().print(text, soft_wrap=True)
        return
    print_json(
        {
            "pipeline": one.loaded.config.pipeline,
            "run_id": one.run_id,
            "submission_id": one.submission_id,
            "address": one.address,
            **found,
        }
    )
