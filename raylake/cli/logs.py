"""``raylake logs``: what the processes of a run say."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from raylake.cli.files import lake_of, load_file
from raylake.cli.options import taking
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption, printable, stdout
from raylake.client.run_logs import LogFilter, LogTail, run_folder
from raylake.clock import SystemClock
from raylake.telemetry.logs import log_folder

FOLLOW_S = 0.5

app = typer.Typer(add_completion=False)


class Level(StrEnum):
    """The least level that is shown."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command is given."""

    file: FileArgument
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until Ctrl-C.")] = False
    level: Annotated[Level, typer.Option(help="The least level.")] = Level.info
    process: Annotated[str, typer.Option(help="Part of a process's name, as owner.")] = ""
    run: Annotated[str | None, typer.Option(help="A run's id; default: the newest.")] = None
    lines: Annotated[int, typer.Option(min=1, help="At most so many of the last.")] = 500
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("logs")
@taking(Options)
def logs(given: Options) -> None:
    """What the processes of a run say, in order of time.

    With --output json each line is the JSON object as it was logged.
    """
    loaded = load_file(given.file, given.set_)
    folder = run_folder(log_folder(lake_of(loaded), loaded.config.pipeline), given.run)
    tail = LogTail(folder, LogFilter(given.level.value, given.process))
    clock = SystemClock()
    _print(tail.last(given.lines), given.output)
    while given.follow:
        clock.sleep(FOLLOW_S)
        _print(tail.new_lines(), given.output)


def _print(lines: Iterable[Mapping[str, Any]], output: Output) -> None:
    console = stdout()
    for line in lines:
        if output is Output.json:
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            console.print(text(line))
    sys.stdout.flush()


def text(line: Mapping[str, Any]) -> str:
    """One line for people; what came from outside is escaped, a traceback keeps its lines."""
    at = str(line.get("time", ""))[11:23]
    head = f"{at} {str(line.get('level', '')).upper():<7} {line.get('process', '')}: "
    said = [printable(part, 2000) for part in str(line.get("message", "")).splitlines()]
    said += [printable(part, 500) for part in str(line.get("traceback", "")).splitlines()]
    return head + "\n    ".join(said)
