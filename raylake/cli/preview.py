"""``raylake preview``: what a run would make of the first records; nothing is written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from raylake.cli.dlq import bytes_text
from raylake.cli.files import load_file, placed
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    printable,
    stdout,
)
from raylake.client.preview import TablePreview
from raylake.client.preview import preview as previewed
from raylake.clock import SystemClock

SHOWN = 10

app = typer.Typer(add_completion=False)


@app.command()
def preview(
    file: FileArgument,
    records: Annotated[int, typer.Option(min=1, max=100_000, help="Read for each table.")] = 1000,
    rows: Annotated[int, typer.Option(min=0, max=1000, help="Shown of each table.")] = SHOWN,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Decoded rows, would-be dead letters with reasons, and the schema; writes nothing."""
    loaded = load_file(file, set_)
    with placed(loaded):
        found = previewed(loaded, records, rows, SystemClock())
    if output is Output.json:
        print_json({"tables": [_plain(asdict(one)) for one in found]})
        return
    for one in found:
        show(one, stdout())


def show(one: TablePreview, console: Console) -> None:
    """Print one table's preview."""
    console.print(f"{one.table} from {', '.join(one.topics) or 'no topic yet'}", style="bold")
    columns = {**one.schema, **one.added}
    written = ", ".join(f"{printable(name)}: {kind}" for name, kind in columns.items())
    console.print(f"schema ({one.schema_from}): {written or 'nothing to infer it from'}")
    if one.added:
        console.print(f"new columns: {', '.join(printable(name) for name in one.added)}")
    console.print(f"{one.records:,} records: {one.rows:,} rows, {one.dead:,} dead letters")
    if one.shown:
        table = Table(box=None, pad_edge=False, header_style="bold")
        names = list(one.shown[-1])
        for name in names:
            table.add_column(printable(name), overflow="fold")
        for row in one.shown:
            table.add_row(*(printable(_text(row.get(name)), 60) for name in names))
        console.print(table)
    for dead in one.dead_letters:
        where = f"{dead['topic']}[{dead['partition']}] offset {dead['offset']}"
        console.print(f"dead letter  {where}  {dead['stage']}/{dead['error_class']}")
        console.print(f"  {printable(dead['reason'], 600)}")
        console.print(f"  value: {_text(dead['value'])}")
    console.print("nothing was written")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return bytes_text(value) if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes_text(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
