"""``raylake demo``: the main job on this machine, proven."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from raylake.cli.output import Output, OutputOption
from raylake.demo.main import DemoOptions, run

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    count: Annotated[int, typer.Option(min=1000, help="Events.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Of the events and of the kills.")] = 1,
    kills: Annotated[
        int, typer.Option(min=0, help="SIGKILLs under way; a third, two at most, of silver's.")
    ] = 9,
    engine: Annotated[
        Literal["auto", "delta-rs", "spark"],
        typer.Option(help="Who writes silver and gold; spark: on the same Ray cluster."),
    ] = "auto",
    lake: Annotated[Path | None, typer.Option(help="A new folder; it stays.")] = None,
    keep_broker: Annotated[
        bool, typer.Option("--keep-broker", help="Leave the broker running.")
    ] = False,
    output: OutputOption = Output.text,
) -> None:
    """A million Kafka records into bronze, silver and gold, kills under way, and the account.

    Exit code 3 when the books don't balance, or silver and gold are not what bronze makes of them.
    """
    as_json = output is Output.json
    options = DemoOptions(count, seed, kills, lake, keep_broker, as_json, engine)
    raise typer.Exit(run(options))
