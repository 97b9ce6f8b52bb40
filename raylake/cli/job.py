"""``raylake job``: a job's entry point under a name that no folder of the user's can hide."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from raylake.client.launch import job_command, job_environment
from raylake.errors import ConfigError

JOBS = ("ingest", "transform", "maintain")

app = typer.Typer(add_completion=False)


@app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": False})
def job(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(JOBS)}.")],
) -> None:
    """A job's entry point, as `ray job submit` starts it.

    All further arguments are the job's own: `raylake job ingest --config FILE`.
    """
    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}", hint=f"one of: {', '.join(JOBS)}")
    command = job_command(name, list(context.args))
    sys.stdout.flush()
    os.execve(command[0], command, job_environment(os.environ))  # noqa: S606 - this very process
