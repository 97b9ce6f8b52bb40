"""``raylake validate``: every problem of a pipeline file at once, offline."""

from __future__ import annotations

import typer

from raylake.cli.files import load_file
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption, print_json, stdout

app = typer.Typer(add_completion=False)


@app.command()
def validate(
    file: FileArgument, set_: SetOption = None, output: OutputOption = Output.text
) -> None:
    """Check a pipeline file, offline.

    Every problem at once, as file:line:column with the line itself and a hint; exit code 2.
    """
    loaded = load_file(file, set_)
    notes = loaded.config.not_yet()
    if output is Output.json:
        print_json({"ok": True, "file": str(file), "sha256": loaded.sha256, "not_yet": notes})
        return
    console = stdout()
    console.print(f"{file} is a valid pipeline file")
    for note in notes:
        console.print(f"  {note}")
