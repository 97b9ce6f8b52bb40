"""Which tables a query reads, and which columns it makes."""

from __future__ import annotations

from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from raylake.config.findings import Invalid

DIALECT: Final = "duckdb"
"""sqlglot's name of what runs the queries."""
_HINT: Final = "write one SELECT over tables such as silver.orders"


def tables_of(sql: str) -> tuple[str, ...]:
    """The tables of a query, ``layer.name`` each, once; the same order each time.

    Raises:
        Invalid: It does not parse, is not one query, or reads something else than tables.
    """
    tree = parsed_query(sql)
    shadowed = {one.alias for one in tree.find_all(exp.CTE)}
    found: dict[str, None] = {}
    for table in tree.find_all(exp.Table, bfs=False):
        if not isinstance(table.this, exp.Identifier):
            raise Invalid(f"{table.sql(DIALECT)} is not a table of the lake", _HINT)
        name = ".".join(part.name for part in table.parts)
        if len(table.parts) == 1 and name in shadowed:
            continue
        if len(table.parts) != 2 or table.db not in ("bronze", "silver", "gold"):
            raise Invalid(f"{name!r} does not name a table of the lake", _HINT)
        found[name] = None
    if not found:
        raise Invalid("the query reads no table", _HINT)
    return tuple(found)


def columns_of(sql: str) -> tuple[str, ...] | None:
    """The columns that a query makes; None: its text alone does not say that.

    Raises:
        Invalid: As :func:`tables_of`.
    """
    names = tuple(parsed_query(sql).named_selects)
    return names if names and all(name not in ("", "*") for name in names) else None


def parsed_query(sql: str) -> exp.Query:
    """The tree of a query.

    Raises:
        Invalid: It does not parse, or is not one query.
    """
    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect=DIALECT) if tree is not None]
    except (SqlglotError, RecursionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0] or "nested too deeply"
        raise Invalid(f"the query does not parse: {reason}", _HINT) from None
    if len(trees) != 1:
        raise Invalid("this is not one query", _HINT)
    tree = trees[0]
    writing = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Into)
    if not isinstance(tree, exp.Query) or tree.find(*writing) is not None:
        raise Invalid(f"{type(tree).__name__.lower()} is not a query: it may only read", _HINT)
    return tree
