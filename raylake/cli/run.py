"""``raylake run``: the job as a child process, with its progress."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from rich.live import Live

from raylake.cli.files import lake_of, load_file, places, status_file
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    stderr,
    stdout,
)
from raylake.cli.views import Rate, committed_last, progress, progress_line, summary
from raylake.client.launch import RunProcess, RunRequest
from raylake.client.runs import refuse_second_run
from raylake.clock import SystemClock
from raylake.config import Loaded
from raylake.errors import EXIT_DONE, EXIT_INTERRUPTED, RayLakeError
from raylake.ingest.plan import new_run_id
from raylake.ingest.status import read_status
from raylake.storage.place import Place
from raylake.telemetry.logs import log_folder

POLL_S = 0.25
QUIET_LINE_S = 10.0

app = typer.Typer(add_completion=False)


@app.command()
def run(
    file: FileArgument,
    available_now: Annotated[
        bool, typer.Option("--available-now", help="Stop at the ends seen at the start.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Do not wait for an owner that may be alive.")
    ] = False,
    set_: SetOption = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster; without it an embedded one is started.")
    ] = None,
    output: OutputOption = Output.text,
) -> None:
    """Run a pipeline; Ctrl-C drains.

    Fetched records are committed before it ends. A second Ctrl-C ends at once; what was not
    committed is read again by the next run.
    """
    loaded = load_file(file, set_)
    lake = lake_of(loaded)
    pipeline = loaded.config.pipeline
    clock = SystemClock()
    if not take_over:
        refuse_second_run(status_file(loaded), pipeline, clock)
    run_id = new_run_id()
    folder = log_folder(lake, pipeline) / run_id
    request = RunRequest(file, run_id, folder, available_now, take_over, tuple(set_ or ()), address)
    process = RunProcess(request)
    with forwarded(process):
        code = watch(process, status_file(loaded), quiet=output is Output.json)
    report(process, loaded, code, output)
    raise typer.Exit(code)


@contextmanager
def forwarded(process: RunProcess) -> Iterator[None]:
    """Passes signals on to a run while it is waited for."""

    def forward(_number: int, _frame: FrameType | None) -> None:
        process.interrupt()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(process: RunProcess, status: Place, *, quiet: bool) -> int:
    """Show progress until the run ends; returns its exit code."""
    view = _View(process, quiet=quiet)
    try:
        while True:
            code = process.wait(POLL_S)
            if code is not None:
                return code
            view.show(of_run(status, process.request.run_id))
    finally:
        view.close()


def of_run(status: Place, run_id: str) -> dict[str, Any] | None:
    """The status document when it is this run's."""
    try:
        document = read_status(status)
    except (RayLakeError, OSError):
        return None
    return document if document.get("run_id") == run_id else None


class _View:
    """Progress: a picture on a terminal, a line now and then elsewhere."""

    def __init__(self, process: RunProcess, *, quiet: bool) -> None:
        self._process = process
        self._quiet = quiet
        self._console = stderr()
        self._live: Live | None = None
        self._rate = Rate()
        self._clock = SystemClock()
        self._said: tuple[str, float] = ("", 0.0)
        self._drain_said = False
        self._tell(f"run {process.request.run_id} starts; its logs: {process.request.folder}")

    def show(self, document: dict[str, Any] | None) -> None:
        if self._process.interrupted and not self._drain_said:
            self._drain_said = True
            self._tell("draining: what was fetched is committed (again: end at once)")
        if document is None or self._quiet:
            return
        rate = self._rate.of(document)
        if self._console.is_terminal:
            self._draw(document, rate)
            return
        state, said_at = self._said
        now = self._clock.monotonic()
        if document["state"] != state or now - said_at >= QUIET_LINE_S:
            self._said = (document["state"], now)
            self._tell(progress_line(document, rate))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _draw(self, document: Mapping[str, Any], rate: float) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(progress(document, rate), refresh=True)

    def _tell(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line)


def report(process: RunProcess, loaded: Loaded, code: int, output: Output) -> None:
    """Say how the run ended and what was committed last."""
    document = of_run(status_file(loaded), process.request.run_id)
    failed = code not in (EXIT_DONE, EXIT_INTERRUPTED)
    error = (process.error() or (document or {}).get("error")) if failed else None
    if failed and error is None:
        error = {"code": "failed", "message": f"the run failed: {process.ended_by()}", "hint": ""}
    if error is not None:
        error = {**error, "at": places(loaded, error), "log": str(process.log)}
    if output is Output.json:
        print_json(
            {
                "pipeline": loaded.config.pipeline,
                "run_id": process.request.run_id,
                "exit_code": code,
                "state": _state(document, code),
                "tables": (document or {}).get("tables", {}),
                "logs": str(process.request.folder),
                "error": error,
            }
        )
        return
    console = stdout()
    if document is not None:
        console.print(summary({**document, "state": _state(document, code)}))
        for line in committed_last(document):
            console.print(line)
    if error is not None:
        tell_error(error)


def _state(document: Mapping[str, Any] | None, code: int) -> str:
    if code == EXIT_INTERRUPTED:
        return "interrupted"
    if document is not None and document.get("state") in ("done", "stopped", "failed"):
        return str(document["state"])
    return "failed" if code else "done"


def tell_error(error: Mapping[str, Any]) -> None:
    """Say why a run failed, where in the file, and where its logs are."""
    console = stderr()
    console.print("error: ", style="bold red", end="")
    console.print(str(error["message"]))
    for place in error["at"]:
        console.print(f"  at {place}")
    if error.get("hint"):
        console.print(f"hint: {error['hint']}")
    console.print(f"logs: {error['log']}")
