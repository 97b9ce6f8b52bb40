"""SQL of the pipeline file, looked at without knowing any table.

The parser takes 0.1 s to import. So it is loaded when there is SQL to check, and not in the
processes that are handed a checked configuration.
"""

from __future__ import annotations

import importlib

from raylake.config.findings import Invalid
from raylake.tables.errors import BadRequest


def names_in(condition: str) -> list[tuple[str, ...]]:
    """The columns that a condition names, part by part (``source``, ``amount``).

    Raises:
        Invalid: It does not parse, holds what is not allowed, or is no condition.
    """
    grammar = importlib.import_module("raylake.tables.expression_grammar")
    try:
        found: list[tuple[str, ...]] = grammar.names_in(condition, "this condition")
    except BadRequest as error:
        raise Invalid(error.message, error.hint) from None
    return found


def tables_of(query: str) -> tuple[str, ...]:
    """The tables that a query reads, ``layer.name`` each, once; the same order each time.

    Raises:
        Invalid: It does not parse, is not one query, or reads something else than tables.
    """
    queries = importlib.import_module("raylake.config.query_tables")
    found: tuple[str, ...] = queries.tables_of(query)
    return found


def columns_of(query: str) -> tuple[str, ...] | None:
    """The columns that a query makes; None: its text alone does not say that.

    Raises:
        Invalid: As :func:`tables_of`.
    """
    queries = importlib.import_module("raylake.config.query_tables")
    found: tuple[str, ...] | None = queries.columns_of(query)
    return found
