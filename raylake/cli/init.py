"""``raylake init``: a pipeline file with the columns that the topics really have."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from raylake.cli.output import Output, OutputOption, print_json
from raylake.client.drafts import draft
from raylake.clock import SystemClock

app = typer.Typer(add_completion=False)


@app.command()
def init(
    bootstrap: Annotated[str, typer.Option(help="host:port of a broker.", show_default=False)],
    topic: Annotated[list[str], typer.Option(help="A topic; may be repeated.", show_default=False)],
    pipeline: Annotated[
        str | None, typer.Option(help="The pipeline's name; default: the first topic's.")
    ] = None,
    output: OutputOption = Output.text,
) -> None:
    """Sample topics and print a pipeline file for them.

    `raylake init --bootstrap localhost:9092 --topic orders > orders.yaml`
    """
    name = pipeline or topic[0]
    text = draft(bootstrap, list(dict.fromkeys(topic)), name, SystemClock())
    if output is Output.json:
        print_json({"pipeline": name, "file": text})
    else:
        sys.stdout.write(text)
