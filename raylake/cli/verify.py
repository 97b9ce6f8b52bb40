"""``raylake verify``: the account of a pipeline, and whether it balances."""

from __future__ import annotations

from enum import StrEnum
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
from raylake.client.verifying import report_of
from raylake.config import Loaded
from raylake.delta.verify import PipelineReport, VerifyReport
from raylake.errors import VerifyDifference
from raylake.ingest.unit import partition_names

app = typer.Typer(add_completion=False)


class Level(StrEnum):
    """How deep to look."""

    log = "log"
    data = "data"
    broker = "broker"
    all = "all"


@app.command()
def verify(
    file: FileArgument,
    level: Annotated[
        Level,
        typer.Option(help="log: the logs; data: every row too; broker: the cluster too; all."),
    ] = Level.log,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Prove that every offset is accounted for.

    Reads only, also while the pipeline runs. Exit code 3 on any difference.
    """
    loaded = load_file(file, set_)
    report = account(loaded, level.value)
    if output is Output.json:
        print_json(report.to_dict())
    else:
        show(report, stdout())
    if not report.ok:
        raise typer.Exit(VerifyDifference.exit_code)


def account(loaded: Loaded, level: str) -> PipelineReport:
    """The report of all tables of a pipeline.

    Raises:
        ConfigError: The pipeline has no table yet.
        DependencyUnreachable: No broker answers; the message names the file's line.
    """
    with placed(loaded):
        return report_of(loaded.config, level)


def show(report: PipelineReport, console: Console) -> None:
    """Print the account of each table, the dead letters, the findings and the verdict."""
    for table in report.tables:
        console.print(f"{table.table} (version {table.relied_on.get('version')})", style="bold")
        console.print(_partitions(table))
        console.print(relied_on(table))
    letters = report.dead_letters
    pending = f", {letters.pending:,} pending" if letters.pending else ""
    leaving = f", {letters.leaving:,} of them leave" if letters.leaving else ""
    console.print(f"dead letters: {letters.stored:,} in the table{leaving}{pending}")
    for finding in report.all_findings():
        said = f"{finding.kind} at {finding.where}: expected {finding.expected}"
        line = printable(f"{finding.severity}: {said}, found {finding.found}", 1000)
        console.print(line, style="bold red" if finding.is_difference else "yellow")
        if finding.hint:
            console.print(f"  hint: {printable(finding.hint, 1000)}")
    seconds = report.relied_on.get("seconds")
    if report.ok:
        console.print(f"ok: every offset is accounted for (level {report.level}, {seconds} s)")
    else:
        console.print(f"DIFFERENCE: the books don't balance (level {report.level})", style="red")


def relied_on(report: VerifyReport) -> str:
    """What an account of a table stands on, in a line."""
    relied = report.relied_on
    first, last = relied.get("commits_retained", (None, None))
    checkpoint, footers = relied.get("checkpoint"), relied.get("footers_read", 0)
    said = [
        "no commit" if first is None else f"commits {first} to {last}",
        "no checkpoint" if checkpoint is None else f"the checkpoint of version {checkpoint}",
        f"the footers of {footers:,} files" if footers != 1 else "the footer of 1 file",
    ]
    return f"relied on: {', '.join(said)}"


def _partitions(report: VerifyReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("partition")
    heads = ("origin", "next", "offsets", "rows", "dead", "absent", "lost", "dropped")
    for head in heads:
        table.add_column(head, justify="right")
    table.add_column("")
    names = partition_names(one.source for one in report.partitions)
    for one in report.partitions:
        values: dict[str, Any] = one.to_dict()
        mark = "=" if one.balanced else "DIFFERS"
        name = printable(names[one.source])
        table.add_row(name, *(f"{values[head]:,}" for head in heads), mark)
    return table
