"""``raylake maintain``: what tables need, what it would cost, and doing it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

import typer

from raylake.cli.options import taking
from raylake.cli.output import Output, OutputOption, print_json, stderr, stdout
from raylake.client.upkeep import ByHand, of_target
from raylake.errors import RayLakeError
from raylake.maintenance.outcomes import Outcome
from raylake.maintenance.plan import plan
from raylake.maintenance.subjects import chosen
from raylake.maintenance.told import as_data, in_words

app = typer.Typer(add_completion=False, help="Upkeep of tables: plan, run.", no_args_is_help=True)

TargetArgument = Annotated[
    str,
    typer.Argument(metavar="PATH_OR_FILE", help="A pipeline file, a lake, or a table's address."),
]
TableOption = Annotated[
    str | None, typer.Option(help="Only this table: layer.name.", show_default=False)
]
ZOrderOption = Annotated[
    str | None,
    typer.Option(help="Columns of the Z-order, with commas between.", show_default=False),
]


@app.callback()
def _group() -> None:
    """Upkeep of tables: what is due, its price, and doing it."""


@app.command("plan")
def plan_upkeep(
    target: TargetArgument,
    table: TableOption = None,
    zorder: ZOrderOption = None,
    output: OutputOption = Output.text,
) -> None:
    """What is due, on which files, what it would read, write and save. Nothing is changed."""
    asked = chosen(of_target(target), target, table, zorder)
    failed: RayLakeError | None = None
    shown: list[dict[str, Any]] = []
    for one in asked:
        try:
            found = plan(one.address, one.policy, at=one.at)
        except RayLakeError as error:
            if len(asked) == 1:
                raise
            failed = failed or error
            shown.append({"table": one.name, "address": one.address, "error": error.to_dict()})
            continue
        if output is Output.text:
            for line in in_words(one.name, found):
                stdout().print(line)
        shown.append(as_data(one.name, one.address, found))
    if output is Output.json:
        print_json({"tables": shown})
    elif not shown:
        stdout().print("there is no table yet")
    if failed is not None:
        raise failed


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of ``raylake maintain run``."""

    target: TargetArgument
    table: TableOption = None
    zorder: ZOrderOption = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another maintainer.")] = (
        0.0
    )
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster on which tables with an owner are written; without it an "
            "embedded one is started where there is one.",
            show_default=False,
        ),
    ] = None
    output: OutputOption = Output.text


@app.command("run")
@taking(RunOptions)
def run_upkeep(asked: RunOptions) -> None:
    """Do what is due, now; Ctrl-C ends after what is under way."""
    if asked.dry_run:
        plan_upkeep(asked.target, asked.table, asked.zorder, asked.output)
        return
    subjects = chosen(of_target(asked.target), asked.target, asked.table, asked.zorder)
    as_text = asked.output is Output.text

    def told(one: Outcome) -> None:
        for line in one.lines() if as_text else ():
            stdout().print(line)

    with stopped_by_signal() as stopping:
        by_hand = ByHand(asked.address, asked.wait, stopping, told)
        found = by_hand.run(subjects)
    if not as_text:
        print_json(found.document())
    else:
        for line in found.lines():
            stdout().print(line)
    if found.failure is not None:
        raise found.failure


@contextmanager
def stopped_by_signal() -> Iterator[Callable[[], bool]]:
    """Whether the user has asked to stop; asked twice, the process is interrupted as ever."""
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def on(_number: int, _frame: FrameType | None) -> None:
        asked.append(1)
        signal.signal(signal.SIGINT, before)
        stderr().print("stopping after what is under way")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, on)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
