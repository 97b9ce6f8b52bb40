"""``raylake quality``: what rules and categories found of silver and gold tables."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import Annotated, Any

import typer

from raylake.cli.files import load_file
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption, print_json, stdout
from raylake.cli.table_output import json_value
from raylake.cli.transform import require_derived
from raylake.client.shown import cell, printable
from raylake.config.addresses import quality_path
from raylake.layers.graph import graph_of

app = typer.Typer(
    add_completion=False,
    help="Quality: what rules and categories found, and what to do.",
    no_args_is_help=True,
)


@app.callback()
def main() -> None:
    """Quality of silver and gold tables."""


@app.command()
def report(
    file: FileArgument,
    table: Annotated[
        str | None,
        typer.Argument(
            help="layer.name, such as silver.orders; left out: all.", show_default=False
        ),
    ] = None,
    last: Annotated[
        int, typer.Option(min=1, max=1000, help="Of each rule so many results, newest first.")
    ] = 1,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """What was found last, in plain words: what failed and what to do about it, then the rest."""
    loaded = load_file(file, set_)
    if table is not None:
        require_derived(table, graph_of(loaded.config))
    # What reads tables is not loaded for the other commands.
    quality = importlib.import_module("raylake.client.quality")
    path = quality_path(loaded.config)
    lines = quality.found_in([path], table, last)
    said = quality.summary(lines)
    if output is Output.json:
        checks = [json_value(asdict(one)) for one in lines]
        print_json({"path": path, "table": table, "summary": said, "checks": checks})
        return
    console = stdout()
    console.print(said)
    for one in lines:
        if one.state != "passed":
            _tell(one)
    passed = [one for one in lines if one.state == "passed"]
    if passed:
        console.print("passed:")
        for one in passed:
            text = printable(one.message, 600)
            console.print(f"  {one.table}  {cell(one.rule)}: {text}  ({cell(one.at)})")


def _tell(one: Any) -> None:
    console = stdout()
    made = "nothing was written" if one.target_version is None else f"version {one.target_version}"
    console.print(f"{one.state}  {one.table}  {cell(one.rule)}  ({cell(one.at)}, {made})")
    console.print(f"  {printable(one.message, 2000)}")
    if one.recommendation:
        console.print(f"  what to do: {printable(one.recommendation, 2000)}")
