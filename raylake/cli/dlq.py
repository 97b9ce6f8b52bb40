"""``raylake dlq``: the records that could not become rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

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
from raylake.client.dead_letters import Letters, Selection, counts, newest
from raylake.client.replay_work import NO_VALUES
from raylake.client.replays import Replayed, TableReplay, replay
from raylake.client.tables import pipeline_tables
from raylake.clock import SystemClock
from raylake.config import Loaded, dead_letter_path
from raylake.delta.tables_there import is_table

VALUE_CHARACTERS = 120

app = typer.Typer(
    add_completion=False, help="Dead letters: show, count and replay them.", no_args_is_help=True
)


WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Only letters for which it holds, such as stage = 'decode' and \"offset\" < 1000. "
        "May be repeated; then all must hold.",
    ),
]
ReasonOption = Annotated[str | None, typer.Option(help="Only those whose reason holds this text.")]


@app.command()
def show(
    file: FileArgument,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    where: WhereOption = None,
    where_reason: ReasonOption = None,
    replayed: Annotated[
        bool, typer.Option("--replayed", help="Those that have become rows since.")
    ] = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """The newest dead letters: coordinates, stage, reason, and the value's beginning."""
    selection = Selection(tuple(where or ()), where_reason or "", replayed=replayed)
    letters = _letters(load_file(file, set_), selection)
    found = [shown(one) for one in newest(letters, limit)]
    if output is Output.json:
        print_json({"path": letters.path, "dead_letters": found})
        return
    console = stdout()
    if not found:
        console.print("no dead letters")
    for one in found:
        place = f"{one['topic']}[{one['partition']}] offset {one['offset']}"
        console.print(f"{one['table']}  {place}  {one['stage']}/{one['error_class']}")
        console.print(f"  {one['reason']}")
        if one["stage"] not in NO_VALUES:
            console.print(f"  value: {'null' if one['value'] is None else one['value']}")


def _letters(loaded: Loaded, selection: Selection) -> Letters:
    """The pipeline's dead letters, whose table is not there before the first one.

    Raises:
        ConfigError: The pipeline has no table at all: it has not run with this lake.
    """
    path = dead_letter_path(loaded.config)
    if not is_table(path):
        pipeline_tables(loaded.config)
    return Letters(path, loaded.config.pipeline, selection)


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
def stats(
    file: FileArgument,
    where: WhereOption = None,
    where_reason: ReasonOption = None,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """How many, by table, stage and kind of fault."""
    selection = Selection(tuple(where or ()), where_reason or "")
    letters = _letters(load_file(file, set_), selection)
    found = counts(letters)
    total = sum(one.count for one in found)
    if output is Output.json:
        kinds = [asdict(one) for one in found]
        print_json({"path": letters.path, "total": total, "kinds": kinds})
        return
    console = stdout()
    console.print(f"{total:,} dead letters in {letters.path}")
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


@app.command("replay")
def replay_letters(
    file: FileArgument,
    where: WhereOption = None,
    where_reason: ReasonOption = None,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="Mends each letter first: it gets the letter and returns the new value as bytes, "
            "None to leave the letter alone, or a changed letter.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "--preview", help="Only say what would come of them."),
    ] = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Let dead letters pass through today's pipeline again, whether it runs or not.

    Those that are fine now become rows, each once however often it is replayed; the others stay,
    with the new reason. Letters of lost offsets have no value and cannot be replayed.
    """
    loaded = load_file(file, set_)
    selection = Selection(tuple(where or ()), where_reason or "")
    with placed(loaded):
        _letters(loaded, selection)
        done = replay(loaded, selection, SystemClock(), fix=fix, dry_run=dry_run)
    if output is Output.json:
        print_json(plain(done))
    else:
        tell(done, stdout())


def plain(done: Replayed) -> dict[str, Any]:
    """A replay as a document."""
    tables = []
    for one in done.tables:
        rows = [{name: _value(value) for name, value in row.items()} for row in one.shown]
        failures = [{name: _value(value) for name, value in row.items()} for row in one.failures]
        tables.append({**asdict(one), "shown": rows, "failures": failures})
    return {
        "dry_run": done.dry_run,
        "by": done.by,
        "selected": done.selected,
        "rows": done.rows,
        "failed": done.failed,
        "lost": done.lost,
        "unknown": dict(done.unknown),
        "tables": tables,
    }


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes_text(value)
    return value if isinstance(value, int | float | str | None) else str(value)


def tell(done: Replayed, console: Console) -> None:
    """Print what came, or would come, of the letters."""
    if not done.selected:
        console.print("no dead letter fits; nothing was changed")
        return
    for one in done.tables:
        _tell_table(one, console, dry_run=done.dry_run)
    if done.lost:
        console.print(
            f"{done.lost:,} stand for lost offsets, which have no value: they cannot be replayed"
        )
    for name, count in sorted(done.unknown.items()):
        console.print(f"{printable(name)}: {count:,} dead letters of a table that the file lacks")


def _tell_table(one: TableReplay, console: Console, *, dry_run: bool) -> None:
    rows, again = ("would be", "would fail") if dry_run else ("are", "have failed")
    console.print(
        f"{one.table}: of {one.letters:,} dead letters {one.rows:,} {rows} rows, "
        f"{one.failed:,} {again} again"
        + (f", {one.left:,} left alone by the fix function" if one.left else "")
        + (f"; replay {one.replay_id}, version {one.version}" if one.replay_id else "")
    )
    if one.added:
        names = ", ".join(printable(name) for name in one.added)
        console.print(f"  columns {'that would be ' if dry_run else ''}added: {names}")
    for failure in one.failures:
        where = f"{failure['topic']}[{failure['partition']}] offset {failure['offset']}"
        fate = f"{failure['stage']}/{failure['error_class']}"
        console.print(f"  {printable(where)}  {printable(fate)}")
        console.print(f"    {printable(str(failure['reason']), 600)}")
    for warning in one.warnings:
        console.print(f"  {printable(warning, 600)}")
