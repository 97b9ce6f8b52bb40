"""Rows of tables as commands print them: for people, as JSON, or as CSV for a spreadsheet."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import pyarrow as pa
import typer

from raylake.cli.output import print_json, stdout
from raylake.client.shown import cell, rich_table

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula."""


class TableOutput(StrEnum):
    """How a command prints rows."""

    table = "table"
    json = "json"
    csv = "csv"


TableOutputOption = Annotated[
    TableOutput,
    typer.Option("--output", "-o", help="table, json: one stable document, or csv; on stdout."),
]


def json_value(value: Any) -> Any:
    """A value of a table as JSON has it.

    Bytes are base64; decimals, and numbers that JSON lacks (``NaN``), are text; times are ISO 8601;
    a map is a list of pairs.
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def csv_value(value: Any) -> Any:
    """A value as a cell of a spreadsheet that calculates nothing with it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    else:
        text = str(json_value(value))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a header and rows."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([csv_value(name) for name in names])
    writer.writerows([csv_value(value) for value in row] for row in rows)


def print_table(title: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows for people."""
    stdout().print(rich_table(title, names, rows))


def print_fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print what one thing has, a line each."""
    console = stdout()
    for name, value in pairs:
        console.print(f"{name}: {cell(value)}")


def columns_of(schema: pa.Schema) -> list[dict[str, str]]:
    """Names and types of columns, in order."""
    return [{"name": field.name, "type": str(field.type)} for field in schema]


def print_one(key: str, what: dict[str, Any], output: TableOutput) -> None:
    """Print one thing: its fields, a line of CSV, or a document under a key."""
    if output is TableOutput.json:
        print_json({key: json_value(what)})
    elif output is TableOutput.csv:
        print_csv(list(what), [list(what.values())])
    else:
        print_fields(what.items())


def print_lines(
    table: str,
    names: Sequence[str],
    lines: list[dict[str, Any]],
    output: TableOutput,
    key: str = "versions",
) -> None:
    """Print what there is of a table; in JSON under ``key``."""
    if output is TableOutput.json:
        print_json({"table": table, key: json_value(lines)})
        return
    values = [[line[name] for name in names] for line in lines]
    if output is TableOutput.csv:
        print_csv(names, values)
    else:
        print_table("", names, values)
