"""``raylake watermark``: how far event time has come, and its deliberate repair."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Annotated

import typer

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
from raylake.cli.views import span
from raylake.client.orders import ORDER_TIMEOUT_S
from raylake.client.watermarks import move_watermark, watermarks
from raylake.clock import SystemClock
from raylake.errors import ConfigError

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

app = typer.Typer(
    add_completion=False,
    help="Watermarks: how far event time has come, and their deliberate repair.",
    no_args_is_help=True,
)

TableName = Annotated[str, typer.Argument(help="Such as bronze.orders.", show_default=False)]


@app.command()
def show(
    file: FileArgument,
    table: Annotated[str | None, typer.Argument(help="Default: every table.")] = None,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """The watermarks, from the run's own word or from each table's newest commit."""
    found = watermarks(load_file(file, set_).config, SystemClock(), table)
    if output is Output.json:
        shown = [{**asdict(one), "watermark": text_of(one.watermark_ms)} for one in found]
        print_json({"watermarks": shown})
        return
    for one in found:
        where = f"told {span(one.age_s)} ago" if one.source == "run" else "newest commit"
        stdout().print(f"{printable(one.table)}: {text_of(one.watermark_ms) or 'none'} ({where})")


@app.command("set")
def move(
    file: FileArgument,
    table: TableName,
    value: Annotated[str, typer.Argument(help="ISO 8601 with an offset: 2026-01-31T12:00:00Z.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a run.")] = ORDER_TIMEOUT_S,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Move a table's watermark, back as well as forward: the repair after a clock gone wild.

    A commit of the table's owner: the running pipeline's, or this command's own when it doesn't
    run. From then on the watermark moves by new records again, and never back.
    """
    value_ms = milliseconds(value)
    config = load_file(file, set_).config
    moved = move_watermark(
        config, table, value_ms, SystemClock(), dry_run=dry_run, timeout_s=timeout
    )
    if output is Output.json:
        texts = {"was": text_of(moved.was_ms), "value": text_of(value_ms)}
        print_json({**asdict(moved), **texts})
        return
    verb = "would move" if dry_run else "moved"
    was = text_of(moved.was_ms) or "none"
    stdout().print(f"{printable(table)}: {verb} from {was} to {text_of(value_ms)}")


def milliseconds(text: str) -> int:
    """A point in time as milliseconds since the epoch.

    Raises:
        ConfigError: It is none, or has no offset.
    """
    hint = "write it as 2026-01-31T12:00:00Z"
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a point in time", hint=hint) from None
    if moment.tzinfo is None:
        raise ConfigError(f"{text!r} has no offset", hint=hint)
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)


def text_of(value_ms: int | None) -> str | None:
    """ISO 8601 in UTC, to the millisecond."""
    if value_ms is None:
        return None
    moment = _EPOCH + dt.timedelta(milliseconds=value_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
