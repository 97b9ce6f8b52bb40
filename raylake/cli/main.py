"""``raylake``: the command line and its one error boundary.

Exit codes: 0 done, 1 failed, 2 configuration or usage, 3 ``verify`` found a difference, 4 a
dependency is unreachable, 5 refused in order to protect data, 6 fenced, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import typer

from raylake.cli.lazy import Entry, LazyGroup
from raylake.cli.output import FORMAT, stderr, wants_json
from raylake.errors import EXIT_DONE, EXIT_INTERRUPTED, ConfigError, RayLakeError, Terminal

COMMANDS: Final = {
    "demo": Entry("raylake.cli.demo", "The main job on this machine, kills under way, proven."),
    "dev": Entry("raylake.cli.dev", "A real Kafka broker on this machine: up, status, down."),
    "init": Entry("raylake.cli.init", "Sample topics and print a pipeline file for them."),
    "preview": Entry("raylake.cli.preview", "Decoded rows and would-be dead letters, unwritten."),
    "bench": Entry("raylake.cli.bench", "What a record costs, stage by stage; nothing is written."),
    "validate": Entry("raylake.cli.validate", "Check a pipeline file, offline."),
    "explain": Entry("raylake.cli.explain", "Every value with its origin, and what will run."),
    "run": Entry("raylake.cli.run", "Run a pipeline; Ctrl-C drains."),
    "submit": Entry("raylake.cli.submit", "Run a pipeline as a Ray job on a cluster."),
    "status": Entry("raylake.cli.status", "What a pipeline's run is doing, or how it ended."),
    "list": Entry("raylake.cli.listing", "The pipelines of a lake and how they are."),
    "logs": Entry("raylake.cli.logs", "What the processes of a run say."),
    "stop": Entry("raylake.cli.stop", "Drain a pipeline that runs on this machine."),
    "stop-all": Entry("raylake.cli.stop_all", "Drain every pipeline of a lake on this machine."),
    "verify": Entry("raylake.cli.verify", "Prove that every offset is accounted for."),
    "adopt": Entry("raylake.cli.adopt", "Begin where Spark, a group or another job has ended."),
    "rewind": Entry("raylake.cli.rewind", "Read offsets again, and take back their rows."),
    "skip": Entry("raylake.cli.skip", "Leave offsets out, counted as dropped."),
    "breaker": Entry("raylake.cli.breaker", "Circuit breakers: list, trip and reset them."),
    "watermark": Entry("raylake.cli.watermark", "Watermarks: show them, and repair one."),
    "table": Entry(
        "raylake.cli.table",
        "Tables: show, history, readers, read, changes, restore, pin, vacuum, repair, convert, "
        "migrate.",
    ),
    "transform": Entry(
        "raylake.cli.transform", "Silver and gold: run, status and preview of derived tables."
    ),
    "quality": Entry("raylake.cli.quality", "What rules found of silver and gold, in plain words."),
    "quarantine": Entry("raylake.cli.quarantine", "Rows that rules set aside: show, replay."),
    "dlq": Entry("raylake.cli.dlq", "Dead letters: show, count and replay them."),
    "maintain": Entry(
        "raylake.cli.maintain", "Upkeep of tables: what is due, its price, and doing it."
    ),
    "retain": Entry("raylake.cli.retain", "Rows that are older than their table keeps leave."),
    "erase": Entry("raylake.cli.erase", "A person's rows leave all layers, with a receipt."),
    "doctor": Entry("raylake.cli.doctor", "What this machine lacks, each with its fix."),
    "job": Entry("raylake.cli.job", "A job's entry point, as `ray job submit` starts it."),
    "version": Entry("raylake.cli.version", "The versions of RayLake and of what it stands on."),
}

ROOT: Final = LazyGroup(
    COMMANDS,
    name="raylake",
    help="Kafka topics become Delta Lake tables that look after themselves.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: Of the command line, without the program's name; the process's own when None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    given = ["version"] if given == ["--version"] else given
    as_json = wants_json(given)
    try:
        code = ROOT.main(given, prog_name="raylake", standalone_mode=not as_json)
    except SystemExit as ended:
        return _code(ended.code)
    except RayLakeError as error:
        return tell(error, as_json=as_json)
    except typer.TyperException as error:
        return tell(ConfigError(str(error), hint="see --help"), as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the boundary of the command line
        return tell(_unexpected(error), as_json=as_json)
    return _code(code)


def _code(code: Any) -> int:
    if code is None:
        return EXIT_DONE
    return code if isinstance(code, int) else 1


def tell(error: RayLakeError, *, as_json: bool) -> int:
    """Say on stderr what went wrong and what to do; returns the exit code of the error's class."""
    if as_json:
        document = {
            "format": FORMAT,
            "error": {**error.to_dict(), "context": error.context},
        }
        sys.stderr.write(json.dumps(document, default=str) + "\n")
        return error.exit_code
    console = stderr()
    console.print("error: ", style="bold red", end="")
    console.print(error.message)
    if error.hint:
        console.print(f"hint: {error.hint}")
    return error.exit_code


def _unexpected(error: Exception) -> RayLakeError:
    name = f"raylake-error-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    path = Path(tempfile.gettempdir()) / name
    hint = "this is a fault of RayLake's; please report it"
    try:
        path.write_text("".join(traceback.format_exception(error)))
        hint += f" with {path}"
    except OSError:
        traceback.print_exception(error)
    return Terminal(f"unexpected {type(error).__name__}: {error}", hint=hint)


if __name__ == "__main__":
    sys.exit(main())
