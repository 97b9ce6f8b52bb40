"""``raylake version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from raylake import __version__
from raylake.cli.output import Output, OutputOption, print_json, stdout

PACKAGES = ("ray", "deltalake", "pyarrow", "kafka-python", "duckdb", "pyspark", "raydp")

app = typer.Typer(add_completion=False)


@app.command("version")
def show(output: OutputOption = Output.text) -> None:
    """The versions of RayLake and of what it stands on."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    if output is Output.json:
        print_json({"raylake": __version__, "packages": found})
        return
    console = stdout()
    console.print(f"raylake {__version__}")
    for name, text in found.items():
        console.print(f"  {name} {text or 'not installed'}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
