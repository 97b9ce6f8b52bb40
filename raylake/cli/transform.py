"""``raylake transform``: silver and gold tables: bring them up to date, see how they stand, try."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
import typer

from raylake.cli.files import lake_of, load_file, places
from raylake.cli.options import taking
from raylake.cli.output import (
    FileArgument,
    Output,
    OutputOption,
    SetOption,
    print_json,
    printable,
    stderr,
    stdout,
)
from raylake.cli.run import POLL_S, forwarded, tell_error
from raylake.cli.table_output import columns_of, json_value, print_table
from raylake.client.launch import RunProcess, TransformRequest
from raylake.client.transform_status import (
    TableProgress,
    transform_document,
    transform_status,
)
from raylake.clock import SystemClock
from raylake.config import Loaded
from raylake.errors import EXIT_DONE, EXIT_INTERRUPTED, ConfigError
from raylake.ingest.plan import new_run_id
from raylake.layers.graph import Graph, graph_of
from raylake.near import did_you_mean
from raylake.tables.times import utc
from raylake.telemetry.logs import log_folder

COLUMNS = (
    "table",
    "state",
    "version",
    "source",
    "processed",
    "behind",
    "rows",
    "last step",
    "next",
)

app = typer.Typer(
    add_completion=False,
    help="Silver and gold: run, status and preview of derived tables.",
    no_args_is_help=True,
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of ``raylake transform run``."""

    file: FileArgument
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="This table, and what it comes from; may be repeated."),
    ] = None
    full_refresh: Annotated[
        list[str] | None,
        typer.Option("--full-refresh", metavar="TABLE", help="Make it anew; may be repeated."),
    ] = None
    continuous: Annotated[
        bool, typer.Option("--continuous", help="Go on until Ctrl-C, by the tables' triggers.")
    ] = False
    engine: Annotated[
        Literal["auto", "delta-rs", "spark"] | None,
        typer.Option(help="Who writes, above the file's `engine`.", show_default=False),
    ] = None
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster; without it an embedded one is started.")
    ] = None
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("run")
@taking(RunOptions)
def run(asked: RunOptions) -> None:
    """Bring derived tables up to date with what is there, once; Ctrl-C ends after a step."""
    loaded = load_file(asked.file, asked.set_)
    tables, anew = tuple(asked.table or ()), tuple(asked.full_refresh or ())
    graph = graph_of(loaded.config)
    for name in (*tables, *anew):
        require_derived(name, graph)
    run_id = new_run_id()
    folder = log_folder(lake_of(loaded), loaded.config.pipeline) / run_id
    pairs = tuple(asked.set_ or ()) + ((f"engine={asked.engine}",) if asked.engine else ())
    request = TransformRequest(
        asked.file, run_id, folder, tables, anew, asked.continuous, pairs, asked.address
    )
    process = RunProcess(request)
    if asked.output is Output.text:
        stderr().print(f"run {run_id} starts; its logs: {folder}")
    with forwarded(process):
        code = process.wait(POLL_S)
        while code is None:
            code = process.wait(POLL_S)
    _report(process, loaded, code, asked.output)
    raise typer.Exit(code)


@app.command("status")
def status(file: FileArgument, set_: SetOption = None, output: OutputOption = Output.text) -> None:
    """How far each derived table has come, from the tables' logs, and what its last run said."""
    loaded = load_file(file, set_)
    found = transform_status(loaded.config, int(SystemClock().now() * 1000))
    if output is Output.json:
        tables = [asdict(one) for one in found]
        print_json({"pipeline": loaded.config.pipeline, "tables": tables})
        return
    if not found:
        stdout().print(f"pipeline {loaded.config.pipeline!r} has no silver or gold table")
        return
    print_table("", COLUMNS, [line for one in found for line in _lines(one)])
    for one in found:
        if one.error:
            stdout().print(f"{one.table}: {one.error}")
        for standing in one.freshness:
            if standing["stale"]:
                said = printable(f"{standing['message']}; {standing['recommendation']}", 600)
                stdout().print(f"{one.table}: {standing['severity']}: {said}")


@app.command("preview")
def preview(
    file: FileArgument,
    table: Annotated[str, typer.Argument(help="layer.name, such as silver.orders.")],
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Rows of the source.")] = 1000,
    shown: Annotated[int, typer.Option(min=0, max=1000, help="Rows that are printed.")] = 10,
    set_: SetOption = None,
    output: OutputOption = Output.text,
) -> None:
    """What a table would make of its source's newest rows, and what its rules say; no writing."""
    loaded = load_file(file, set_)
    require_derived(table, graph_of(loaded.config))
    # What runs a table is not loaded for the other commands.
    found = importlib.import_module("raylake.client.transforms").preview(loaded.config, table, rows)
    results = [dict(one) for one in found.results]
    if output is Output.json:
        document = {
            "table": table,
            "columns": columns_of(found.rows.schema),
            "rows": _plain(found.rows, shown),
            "rejected": _plain(found.rejected, shown),
            "counts": {"rows": found.rows.num_rows, "rejected": found.rejected.num_rows},
            "rules": json_value(results),
        }
        print_json(document)
        return
    _show(f"{table}: {found.rows.num_rows:,} rows", found.rows.slice(0, shown))
    _show(f"rejected: {found.rejected.num_rows:,} rows", found.rejected.slice(0, shown))
    if results:
        names = ("rule", "severity", "failed", "rows", "message")
        print_table("rules", names, [[one.get(name) for name in names] for one in results])
    stdout().print("nothing was written")


def require_derived(name: str, graph: Graph) -> None:
    """Refuse what is no derived table of the file.

    Raises:
        ConfigError: It is none; names the one that may be meant.
    """
    known = [node.name for node in graph.derived]
    if name not in known:
        raise ConfigError(
            f"{name} is no silver or gold table of this file", hint=did_you_mean(name, known)
        )


def _lines(one: TableProgress) -> list[list[Any]]:
    """A line for each source of a table; what is the table's own stands in the first."""
    at = None if one.at_ms is None else utc(one.at_ms)
    state = one.state or ("new" if one.version is None else "")
    lines = []
    for i, source in enumerate(one.sources):
        own = [one.table, state, one.version] if i == 0 else ["", "", None]
        behind = None if source.latest is None else source.behind_versions
        came = [source.source, source.processed, behind, source.behind_rows]
        lines.append([*own, *came, *([at, one.next] if i == 0 else [None, None])])
    return lines


def _plain(rows: pa.Table, limit: int) -> Any:
    return json_value(rows.slice(0, limit).to_pylist())


def _show(title: str, rows: pa.Table) -> None:
    print_table(title, rows.column_names, [list(row.values()) for row in rows.to_pylist()])


def _report(process: RunProcess, loaded: Loaded, code: int, output: Output) -> None:
    """Say how the run ended, table by table."""
    document = transform_document(loaded.config)
    if document.get("run_id") != process.request.run_id:
        document = {}
    tables: Mapping[str, Any] = document.get("tables", {})
    error = _error(process, document, code)
    if error is not None:
        error = {**error, "at": places(loaded, error), "log": str(process.log)}
    if output is Output.json:
        print_json(
            {
                "pipeline": loaded.config.pipeline,
                "run_id": process.request.run_id,
                "exit_code": code,
                "tables": tables,
                "logs": str(process.request.folder),
                "error": error,
            }
        )
        return
    names: Sequence[str] = ("state", "version", "source", "processed", "rows", "rejected")
    lines = [[name, *(one.get(key) for key in names)] for name, one in tables.items()]
    if lines:
        print_table("", ("table", *names), lines)
    if error is not None:
        tell_error(error)


def _error(process: RunProcess, document: Mapping[str, Any], code: int) -> dict[str, Any] | None:
    if code in (EXIT_DONE, EXIT_INTERRUPTED):
        return None
    said = process.error() or document.get("error")
    message = f"the run failed: {process.ended_by()}"
    return dict(said) if said else {"code": "failed", "message": message, "hint": ""}
