"""What all commands share: ``--output``, the two consoles, and JSON as a stable contract."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

FORMAT = 1
"""Format number of every JSON document that a command prints."""


class Output(StrEnum):
    """How a command prints its answer."""

    text = "text"
    json = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="text, or json: one stable document on stdout.")
]
FileArgument = Annotated[Path, typer.Argument(help="The pipeline file.", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A value above the file; may be repeated."),
]

AddressOption = Annotated[
    str | None,
    typer.Option(help="Ask the Ray cluster that the pipeline was submitted to, http://head:8265."),
]


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether these arguments ask for JSON, also when the command cannot be parsed."""
    return any(
        one in ("--output=json", "-ojson") or (one in ("--output", "-o") and value == "json")
        for one, value in pairwise([*arguments, ""])
    )


def stdout() -> Console:
    """The console of answers; tables keep their width where there is no terminal."""
    plain = not sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=plain, width=160 if plain else None, markup=False)


def stderr() -> Console:
    """The console of progress and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one document, with the format number first."""
    text = json.dumps({"format": FORMAT, **document}, indent=1, default=str)
    sys.stdout.write(f"{text}\n")


def printable(text: str, limit: int = 200) -> str:
    """Text that came from outside, bounded and with its control characters escaped.

    Args:
        text: The text.
        limit: Greatest number of characters shown.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[:limit]}…"
