"""SQL of the pipeline file, looked at without knowing any table.

The parser takes 0.1 s to import. So it is loaded when there is SQL to check, and not in the
processes that are handed a checked configuration.
"""

from __future__ import annotations

import importlib
from typing import Any

from raylake.config.findings import Invalid
from raylake.errors import ConfigError


def names_in(condition: str) -> list[tuple[str, ...]]:
    """The columns that a condition names, part by part (``source``, ``amount``).

    Raises:
        Invalid: It does not parse, holds what is not allowed, or is no condition.
    """
    grammar = importlib.import_module("raylake.tables.expression_grammar")
    try:
        found: list[tuple[str, ...]] = grammar.names_in(condition, "this condition")
    except ConfigError as error:
        raise Invalid(error.message, error.hint) from None
    return found


def tables_of(query: str) -> tuple[str, ...]:
    """The tables that a query reads, ``layer.name`` each; the one that it follows is the first.

    Raises:
        Invalid: It does not parse, or is not a query that a table can be kept by.
    """
    found: tuple[str, ...] = _query(query).tables
    return found


def columns_of(query: str) -> tuple[str, ...]:
    """The columns that a query makes; raises as :func:`tables_of`."""
    found: tuple[str, ...] = _query(query).outputs
    return found


def _query(text: str) -> Any:
    queries = importlib.import_module("raylake.layers.query")
    try:
        return queries.parse_query(text)
    except ConfigError as error:
        raise Invalid(error.message, error.hint) from None
