"""``raylake submit``: the pipeline as a Ray job on a cluster."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from raylake.cli.files import load_file
from raylake.cli.options import taking
from raylake.cli.output import (
    FileArgument,
    Output,
    SetOption,
    print_json,
    stdout,
)
from raylake.client.jobs_address import cluster_address
from raylake.client.jobs_api import JobsApi
from raylake.client.kuberay import IMAGE, as_yaml, manifests
from raylake.client.runs import refuse_process
from raylake.client.submission import RESTARTS, Submission
from raylake.client.submitting import Asked, on_cluster
from raylake.clock import SystemClock
from raylake.errors import ConfigError
from raylake.ingest.plan import new_run_id

app = typer.Typer(add_completion=False)


class SubmitOutput(StrEnum):
    """How ``raylake submit`` prints its answer."""

    text = "text"
    json = "json"
    kuberay = "kuberay"


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Options of ``raylake submit``."""

    file: FileArgument
    address: Annotated[
        str | None, typer.Option(help="The cluster, as http://head:8265; default: RAY_ADDRESS.")
    ] = None
    available_now: Annotated[
        bool, typer.Option("--available-now", help="Stop at the ends seen at the start.")
    ] = False
    replace: Annotated[
        bool, typer.Option("--replace", help="Drain the run that is there first.")
    ] = False
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Do not wait for an owner that may be alive.")
    ] = False
    restarts: Annotated[
        int, typer.Option(min=0, help="So often again after failures that may pass.")
    ] = RESTARTS
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plain `ray job submit` line.")
    ] = False
    image: Annotated[
        str, typer.Option(help="With RayLake in it, for --output kuberay.", metavar="NAME:TAG")
    ] = IMAGE
    set_: SetOption = None
    output: Annotated[
        SubmitOutput,
        typer.Option(
            "--output",
            "-o",
            help="text, or json: one stable document on stdout; or kuberay, with --dry-run: the "
            "job as objects of Kubernetes.",
        ),
    ] = SubmitOutput.text


@app.command()
@taking(SubmitOptions)
def submit(asked: SubmitOptions) -> None:
    """Run a pipeline as a Ray job; returns as soon as the cluster has it.

    One that runs there already is left alone, and named. When the file has changed since, says what
    differs and what each difference takes.

    Ray's own RAY_ADDRESS and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) count. RayLake
    is installed on the cluster's nodes, in the image.
    """
    loaded = load_file(asked.file, asked.set_)
    for_kubernetes = asked.output is SubmitOutput.kuberay
    one = Submission(
        loaded,
        "" if for_kubernetes else cluster_address(asked.address),
        "" if for_kubernetes else new_run_id(),
        asked.available_now,
        asked.take_over,
        tuple(asked.set_ or ()),
        os.environ,
        restarts=asked.restarts,
    )
    if for_kubernetes:
        _print_manifests(one, asked)
        return
    output = Output(asked.output.value)
    if asked.dry_run:
        ids = {"run_id": one.run_id, "submission_id": one.submission_id}
        _tell(one, {**ids, "line": one.line()}, output, one.line())
        return
    _submit(one, asked, output)


def _submit(one: Submission, asked: SubmitOptions, output: Output) -> None:
    wanted = Asked(
        one.loaded,
        asked.available_now,
        asked.take_over,
        asked.replace,
        one.overrides,
        restarts=asked.restarts,
    )
    if not asked.take_over:
        refuse_process(wanted.status, wanted.pipeline, SystemClock())
    begun = on_cluster(wanted, JobsApi(one.address))
    run = begun.run
    at = f"{asked.file} --address {one.address}"
    text = (
        f"{'runs already' if begun.attached else 'submitted'}: {run.submission_id}\n"
        f"raylake status {asked.file}; raylake stop {at}; raylake logs {asked.file}\n"
        f"what the job itself prints: ray job logs {run.submission_id}"
    )
    state = "ATTACHED" if begun.attached else "SUBMITTED"
    ids = {"run_id": run.run_id, "submission_id": run.submission_id}
    _tell(one, {**ids, "state": state}, output, text)


def _print_manifests(one: Submission, asked: SubmitOptions) -> None:
    if not asked.dry_run or asked.address:
        raise ConfigError(
            "--output kuberay prints objects for `kubectl apply -f -`, and submits nothing",
            hint="add --dry-run, and leave --address out",
        )
    sys.stdout.write(as_yaml(manifests(one, asked.image)))


def _tell(one: Submission, found: dict[str, Any], output: Output, text: str) -> None:
    if output is Output.text:
        stdout().print(text, soft_wrap=True)
        return
    print_json({"pipeline": one.loaded.config.pipeline, "address": one.address, **found})
