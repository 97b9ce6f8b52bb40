"""``raylake rewind``: read offsets again."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from raylake.cli.files import load_file, placed
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption
from raylake.cli.positions import DryRunOption, TableName, offsets_of, tell
from raylake.cli.watermark import milliseconds
from raylake.client.rewind_orders import (
    HowFar,
    Target,
    ToEarliest,
    ToMoment,
    ToOffsets,
    ToVersion,
    rewind,
)
from raylake.clock import SystemClock
from raylake.errors import ConfigError

app = typer.Typer(add_completion=False)


@app.command("rewind")
def command(
    file: FileArgument,
    table: TableName,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="WHERE",
            help="earliest; a moment, 2026-01-31T12:00:00Z; version:N, where the table stood at "
            "its version N; or TOPIC[P]=OFFSET, repeated.",
        ),
    ],
    replace: Annotated[
        bool | None,
        typer.Option(
            "--replace-compacted/--replace",
            help="Take away the rows and dead letters of the offsets; of a compacted topic only "
            "with --replace-compacted, as what Kafka has compacted away does not come back.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRunOption = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Read offsets again that a table has accounted for, while the pipeline does not run.

    One commit lowers the position and takes away what the table made of these offsets. Without
    --replace it is refused where there are rows or dead letters: they would be doubled.
    """
    target = target_of(to)
    loaded = load_file(file, set_)
    with placed(loaded):
        how = HowFar(replace is not None, compacted_too=replace is True, dry_run=dry_run)
        done = rewind(loaded, table, target, SystemClock(), how)
    tell(done, output)


def target_of(to: list[str]) -> Target:
    """Where to read from.

    Raises:
        ConfigError: It is none of the four.
    """
    if any("=" in one for one in to):
        return ToOffsets(offsets_of(to))
    if len(to) != 1:
        raise ConfigError("--to takes one moment or version, or positions", hint="see --help")
    version = re.fullmatch(r"version:(\d+)", to[0])
    if version is not None:
        return ToVersion(int(version[1]))
    return ToEarliest() if to[0] == "earliest" else ToMoment(milliseconds(to[0]))
