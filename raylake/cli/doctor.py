"""``raylake doctor``: what is missing on this machine, each with its fix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from raylake.cli.files import load_file
from raylake.cli.output import Output, OutputOption, SetOption, print_json, stdout
from raylake.client.broker_checks import broker_checks
from raylake.client.checks import Check, machine_checks
from raylake.client.pipeline_checks import pipeline_checks
from raylake.client.ray_checks import ray_checks

STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="Also check what this pipeline needs.")
    ] = None,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Look at this machine, and at what a pipeline file needs; each finding with its fix.

    Nothing is left behind. The exit code is that of the first check that fails: 4 for an
    unreachable broker, 2 for a missing topic.
    """
    found = []
    for check in _checks(file, set_):
        found.append(check)
        if output is Output.text:
            show(check)
    if output is Output.json:
        print_json(
            {"ok": all(c.state != "fail" for c in found), "checks": [asdict(c) for c in found]}
        )
    raise typer.Exit(next((c.exit_code for c in found if c.state == "fail"), 0))


def _checks(file: Path | None, pairs: list[str] | None) -> Iterator[Check]:
    loaded = None
    if file is not None:
        loaded = load_file(file, pairs)
    yield from machine_checks(os.environ, Path.cwd())
    yield from ray_checks(os.environ)
    if loaded is not None:
        yield from pipeline_checks(loaded)
        yield from broker_checks(loaded)


def show(check: Check) -> None:
    """Print one line, and the fix when there is something to fix."""
    console = stdout()
    console.print(f"{check.state:<5}", style=STYLES[check.state], end="")
    console.print(f"{check.name}: {check.found}")
    if check.fix:
        console.print(f"     fix: {check.fix}")
