"""``raylake bench``: what the hot path costs for a pipeline's own topics, stage by stage."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

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
from raylake.client.bench import TableBench
from raylake.client.bench import bench as measured
from raylake.clock import SystemClock

NAMES: Final = {
    "fetch": "fetch: socket and frames",
    "decode": "decode",
    "assemble": "checks and metadata columns",
    "encode": "encode Parquet",
    "commit": "commit to Delta",
}
SHOWN_REASONS = 5

app = typer.Typer(add_completion=False)


@app.command()
def bench(
    file: FileArgument,
    table: Annotated[str, typer.Option(help="One table, bronze.x, instead of all.")] = "",
    records: Annotated[int, typer.Option(min=1, help="Read for each table.")] = 1_000_000,
    stages: Annotated[
        bool, typer.Option("--stages", help="Each stage, not only the whole.")
    ] = False,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """What a record costs, stage by stage, in this process without Ray; the lake is not touched."""
    loaded = load_file(file, set_)
    with placed(loaded):
        found = measured(loaded, records, SystemClock(), table)
    if output is Output.json:
        print_json({"tables": [document(one) for one in found]})
        return
    for one in found:
        show(one, stdout(), stages=stages)
    stdout().print("nothing was written into the lake")


def document(one: TableBench) -> dict[str, Any]:
    """One table's figures as JSON."""
    return {
        **asdict(one),
        "between_s": one.between_s,
        "records_per_s": _rate(one.records, one.wall_s),
        "records_per_cpu_s": _rate(one.records, one.cpu_s),
    }


def show(one: TableBench, console: Console, *, stages: bool) -> None:
    """Print one table's figures."""
    console.print(f"{one.table} from {', '.join(one.topics)}", style="bold")
    console.print(
        f"{one.records:,} records of {one.partitions} partitions: {one.rows:,} rows, {one.dead:,} "
        f"dead letters, {one.files} files, {one.commits} commits"
    )
    if stages:
        console.print(stages_table(one))
    console.print(
        f"{_rate(one.records, one.cpu_s):,.0f} records per CPU-second, "
        f"{_rate(one.records, one.wall_s):,.0f} per second ({one.wall_s:.1f} s)"
    )
    console.print(one_by_one(one))
    if one.grown:
        console.print(
            f"new columns: added {one.grown} times, each time after a batch was decoded one by one"
        )
    console.print(kernels(one))


def stages_table(one: TableBench) -> Table:
    """The stages, what is between them, and the whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for head in ("CPU µs/record", "MB/CPU-second", "share"):
        table.add_column(head, justify="right")
    for stage in one.stages:
        speed = f"{_rate(stage.bytes, stage.cpu_s) / 1e6:,.0f}"
        table.add_row(NAMES[stage.name], *_cost(one, stage.cpu_s, speed))
    table.add_row("between them", *_cost(one, one.between_s, ""))
    table.add_row("whole", *_cost(one, one.cpu_s, ""))
    return table


def one_by_one(one: TableBench) -> str:
    """How many records were decoded one by one, and why."""
    if one.one_by_one is None:
        return "decoded one by one: none, this format is not decoded"
    share = 100 * one.one_by_one / max(1, one.records)
    reasons = sorted(one.reasons.items(), key=lambda item: -item[1])
    shown = [f"{count:,} {printable(reason)}" for reason, count in reasons[:SHOWN_REASONS]]
    if more := sum(count for _, count in reasons[SHOWN_REASONS:]):
        shown.append(f"{more:,} others")
    why = ": " + ", ".join(shown) if shown else ""
    return f"decoded one by one: {one.one_by_one:,} ({share:.2f} %){why}"


def kernels(one: TableBench) -> str:
    """Whether the kernels were compiled before."""
    if one.kernels.compiled:
        return (
            f"kernels: cold, {one.kernels.compiled} compiled in {one.kernels.loaded_s:.1f} s "
            "before the measurement (`python -m raylake.kernels` does it beforehand)"
        )
    return f"kernels: warm, loaded in {one.kernels.loaded_s:.1f} s before the measurement"


def _cost(one: TableBench, cpu_s: float, speed: str) -> tuple[str, str, str]:
    micros = 1e6 * cpu_s / max(1, one.records)
    return f"{micros:.3f}", speed, f"{100 * cpu_s / max(1e-9, one.cpu_s):.0f} %"


def _rate(count: int, seconds: float) -> float:
    return count / max(1e-9, seconds)
