"""``raylake dlq``: the records that could not become rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from raylake.cli.files import load_file
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    printable,
    stdout,
)
from raylake.client.dead_letters import counts, newest
from raylake.client.tables import pipeline_tables
from raylake.config import Pipeline, dead_letter_path
from raylake.delta.tables_there import is_table

VALUE_CHARACTERS = 120

app = typer.Typer(
    add_completion=False, help="Dead letters: show and count them.", no_args_is_help=True
)


@app.command()
def show(
    file: FileArgument,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    where_reason: Annotated[
        str | None, typer.Option(help="Only those whose reason holds this text.")
    ] = None,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """The newest dead letters: coordinates, stage, reason, and the value's beginning."""
    config, path = _letters(file, set_)
    found = [shown(one) for one in newest(path, config.pipeline, limit, where_reason)]
    if output is Output.json:
        print_json({"path": path, "dead_letters": found})
        return
    console = stdout()
    if not found:
        console.print("no dead letters")
    for one in found:
        where = f"{one['topic']}[{one['partition']}] offset {one['offset']}"
        console.print(f"{one['table']}  {where}  {one['stage']}/{one['error_class']}")
        console.print(f"  {one['reason']}")
        if one["stage"] != "lost":  # a range of offsets, whose values nobody has
            console.print(f"  value: {'null' if one['value'] is None else one['value']}")


def _letters(file: Path, pairs: Sequence[str] | None) -> tuple[Pipeline, str]:
    """The pipeline and its dead-letter table, which is not there before the first letter.

    Raises:
        ConfigError: The pipeline has no table at all: it has not run with this lake.
    """
    loaded = load_file(file, pairs)
    path = dead_letter_path(loaded.config)
    if not is_table(path):
        pipeline_tables(loaded.config)
    return loaded.config, path


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A dead letter for people: bytes as bounded text, times as text, nothing unprintable."""
    made = dict(row)
    for name in ("key", "value"):
        made[name] = None if row[name] is None else bytes_text(row[name])
    for name in ("timestamp", "failed_at"):
        made[name] = None if row[name] is None else row[name].isoformat()
    for name in ("reason", "error_class", "table", "topic"):
        made[name] = printable(str(row[name]), 600)
    return made


def bytes_text(value: bytes) -> str:
    """The beginning of some bytes as text; what is no printable UTF-8 is escaped."""
    text = value[: 4 * VALUE_CHARACTERS].decode("utf-8", "backslashreplace")
    if len(text) <= VALUE_CHARACTERS and len(value) <= 4 * VALUE_CHARACTERS:
        return printable(text, VALUE_CHARACTERS)
    beginning = printable(text[:VALUE_CHARACTERS], VALUE_CHARACTERS).removesuffix("…")
    return f"{beginning}… ({len(value):,} bytes)"


@app.command()
def stats(file: FileArgument, set_: SetOption = None, output: OutputOption = Output.text) -> None:
    """How many, by table, stage and kind of fault."""
    config, path = _letters(file, set_)
    found = counts(path, config.pipeline)
    total = sum(one.count for one in found)
    if output is Output.json:
        print_json({"path": path, "total": total, "kinds": [asdict(one) for one in found]})
        return
    console = stdout()
    console.print(f"{total:,} dead letters in {path}")
    if not found:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("table", "stage", "kind"):
        table.add_column(head)
    table.add_column("count", justify="right")
    table.add_column("last")
    table.add_column("for example")
    for one in found:
        texts = [printable(text) for text in (one.table, one.stage, one.error_class)]
        last = one.last_failed_at[:19]
        table.add_row(*texts, f"{one.count:,}", last, printable(one.example, 80))
    console.print(table)
