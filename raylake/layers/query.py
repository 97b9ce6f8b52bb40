"""The SQL of a derived table: parsed, held against an allow-list, never spliced (SPEC D2).

One ``SELECT`` over tables of the lake, in DuckDB's dialect. It reads nothing else, writes nothing,
and makes the same rows of the same rows each time. What runs is written anew from the syntax tree,
in a DuckDB that reaches nothing outside (:mod:`raylake.layers.sandbox`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from raylake.config.findings import did_you_mean
from raylake.errors import ConfigError
from raylake.layers.errors import TransformRefused
from raylake.layers.query_functions import (
    FOREIGN,
    NAMED_AGGREGATES,
    NAMED_SCALARS,
    NEEDS_ORDER,
    PARTS,
    UNSTEADY,
)

DIALECT: Final = "duckdb"
MAX_CHARACTERS: Final = 20_000
LAYERS: Final = ("bronze", "silver", "gold")
OWN: Final = "raylake_"
"""What names of ours in a query begin with; a user's must not."""
GROUP: Final = "_group"
ROWS: Final = "_rows"
_RESERVED: Final = frozenset({GROUP, ROWS, "_change_type", "_commit_version", "_commit_timestamp"})
_NOT_IN_NAMES: Final = re.compile(r"[.`\"\x00-\x1f\x7f ,;{}()=‘’“”«»]")
_ODD_QUOTES: Final = re.compile(r"[‘’“”«»‚„′″]")
_QUOTES: Final = "write plain quotes: ' around texts, \" around names"
_Form = tuple[bool, str, str]
_SELECT: Final = frozenset(
    [
        "with_",
        "expressions",
        "distinct",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "windows",
        "qualify",
        "order",
        "limit",
        "offset",
    ]
)
_TABLE: Final = frozenset({"this", "db", "alias", "joins"})
_JOINS: Final = frozenset({"", "INNER", "CROSS", "OUTER", "SEMI", "ANTI"})
_NAMES: Final = "write layer.name: silver.orders"
_READ_ONLY: Final = "one SELECT over tables of the lake is all that a derived table's sql may be"


class QueryRefused(ConfigError, TransformRefused):
    """The SQL of a derived table is none, reaches for more than tables, or is not repeatable.

    The context has ``line`` and ``column``, from 1 on, where a place is known.
    """

    code = "query_refused"


@dataclass(frozen=True, slots=True)
class Query:
    """A checked query.

    Attributes:
        sql: As it was written.
        tables: The tables that it reads, ``layer.name``; the first one is the source that the
            derived table follows.
        outputs: The names of its columns, in order.
        tree: Its syntax tree; copy it before it is changed.
    """

    sql: str
    tables: tuple[str, ...]
    outputs: tuple[str, ...]
    tree: exp.Query = field(repr=False)

    @property
    def source(self) -> str:
        """The table that the derived table follows: that of the outermost FROM."""
        return self.tables[0]

    def refused(self, what: str, node: exp.Expr | None = None, hint: str = "") -> QueryRefused:
        """An error about a part of it."""
        return _refused(self.sql, what, node, hint)


def parse_query(sql: str, tables: Iterable[str] | None = None) -> Query:
    """A query, checked whole.

    Args:
        sql: One SELECT in DuckDB's dialect.
        tables: The tables that there are, ``layer.name``; None: that is asked elsewhere.

    Raises:
        QueryRefused: Saying what is wrong, where, and what to do.
    """
    tree = _parsed(sql)
    known = None if tables is None else sorted(set(tables))
    names = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for node in tree.walk():
        _check(sql, node)
    read: list[str] = []
    for table in _in_order(tree):
        if not table.db and not table.catalog and table.name.lower() in names:
            continue
        name = _table(sql, table, known)
        if name not in read:
            read.append(name)
    if not read:
        raise _refused(sql, "reads no table", None, f"write FROM layer.name; {_known(known or [])}")
    return Query(sql, tuple(read), _outputs(sql, tree), tree)


def is_aggregate(node: exp.Expr) -> bool:
    """Whether a node calls an aggregate function."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in NAMED_AGGREGATES
    return isinstance(node, exp.AggFunc)


def _parsed(sql: str) -> exp.Query:
    if not isinstance(sql, str) or not sql.strip():
        raise QueryRefused("sql: it is empty", hint="write a SELECT")
    if len(sql) > MAX_CHARACTERS:
        raise QueryRefused(
            f"sql: it has {len(sql)} characters, {MAX_CHARACTERS} may be",
            hint="make tables of its parts",
        )
    try:
        trees = sqlglot.parse(sql, read=DIALECT)
    except ParseError as error:
        raise _unparsed(sql, error) from None
    except (SqlglotError, RecursionError, ValueError) as error:
        reason = str(error).split("\n", maxsplit=1)[0] or "it is nested too deeply"
        raise QueryRefused(f"sql: it does not parse: {reason}", hint=_READ_ONLY) from None
    found = [one for one in trees if one is not None]
    if len(found) != 1:
        second = found[1] if len(found) > 1 else None
        what = f"holds {len(found)} statements" if found else "holds no statement"
        raise _refused(sql, what, second, _READ_ONLY)
    tree = found[0]
    while isinstance(tree, exp.Subquery) and not set(_given(tree)) - {"this"}:
        tree = tree.this
    if not isinstance(tree, exp.Select | exp.SetOperation):
        word = sql.split(maxsplit=1)[0].upper() if isinstance(tree, exp.Command) else tree.key
        raise _refused(sql, f"is no SELECT but {word.upper()}", tree, _READ_ONLY)
    return tree


def _unparsed(sql: str, error: ParseError) -> QueryRefused:
    first = error.errors[0] if error.errors else {}
    what = str(first.get("description") or str(error).split("\n", maxsplit=1)[0])
    text = str(first.get("highlight") or "")
    near = f" near {text!r}" if text else ""
    line, column = int(first.get("line") or 0), int(first.get("col") or 0)
    column = max(1, column - max(0, len(text) - 1))
    hint = _QUOTES if _ODD_QUOTES.search(sql) else "see DuckDB's SELECT"
    if not line:
        return QueryRefused(f"sql: it does not parse{near}: {what}", hint=hint)
    return QueryRefused(
        f"sql:{line}:{column}: it does not parse{near}: {what}",
        hint=hint,
        line=line,
        column=column,
    )


def _check(sql: str, node: exp.Expr) -> None:
    """Refuse what the allow-list lacks, and forms of what it has that are not for a table."""
    kind = node.key
    if kind in ("anonymous", "anonymousaggfunc"):
        name = node.name.lower()
        if name not in NAMED_AGGREGATES and name not in NAMED_SCALARS:
            raise _not_allowed(sql, node, name)
    elif kind not in PARTS:
        raise _not_allowed(sql, node, kind)
    if isinstance(node, exp.Select):
        _check_select(sql, node)
    if isinstance(node, exp.Join):
        _check_join(sql, node)
    for wrong, what, hint in (*_forms(node), *_forms_of_rows(node)):
        if wrong:
            raise _refused(sql, what, node, hint)


def _forms(node: exp.Expr) -> Iterator[_Form]:
    """Forms that a node of an allowed kind must not have, and whether it has them."""
    if isinstance(node, exp.With):
        yield bool(node.args.get("recursive")), "has WITH RECURSIVE", "its rows may have no end"
    elif isinstance(node, exp.Star):
        hint = "name the columns: a table's columns are its own"
        yield not isinstance(node.parent, exp.Count), "selects *", hint
    elif isinstance(node, exp.Identifier):
        what = f"has the name {node.name!r} with typographic quotes"
        yield bool(_ODD_QUOTES.search(node.name)), what, _QUOTES
    elif isinstance(node, exp.CTE | exp.TableAlias | exp.Alias):
        name = node.alias_or_name
        yield name.lower().startswith(OWN), f"has the name {name!r}", f"{OWN}… is reserved"


def _forms_of_rows(node: exp.Expr) -> Iterator[_Form]:
    """Forms that make other rows each time."""
    if isinstance(node, exp.Distinct):
        yield bool(node.args.get("on")), "has DISTINCT ON", UNSTEADY["first"]
    if isinstance(node, exp.Query):
        cut = bool(node.args.get("limit") or node.args.get("offset"))
        yield (
            cut and not node.args.get("order"),
            "has LIMIT without ORDER BY",
            "say which rows with ORDER BY",
        )
    if node.key in NEEDS_ORDER:
        what = f"has {_shown(node)} without an order"
        yield not _ordered(node), what, "write it as list(x ORDER BY x)"


def _check_select(sql: str, node: exp.Select) -> None:
    for name in _given(node):
        if name not in _SELECT:
            what = f"has {name.strip('_').replace('_', ' ').upper()}"
            raise _refused(sql, what, node, _READ_ONLY)


def _check_join(sql: str, node: exp.Join) -> None:
    method, kind = (str(node.args.get(part) or "").upper() for part in ("method", "kind"))
    if method or kind not in _JOINS:
        what = f"has a {method or kind} JOIN"
        raise _refused(sql, what, node, "join with ON or USING")


def _ordered(node: exp.Expr) -> bool:
    inside = any(True for _ in node.find_all(exp.Order))
    return inside or isinstance(node.parent, exp.WithinGroup)


def _not_allowed(sql: str, node: exp.Expr, name: str) -> QueryRefused:
    shown = _shown(node)
    for reasons in (UNSTEADY, FOREIGN):
        if name in reasons:
            return _refused(sql, f"has {shown}", node, reasons[name])
    if isinstance(node, exp.Func):
        hint = did_you_mean(name, NAMED_SCALARS | NAMED_AGGREGATES) if len(name) > 3 else ""
        hint = hint if hint.startswith("did") else "it is not among the functions that are known"
        return _refused(sql, f"calls {shown}, which is not allowed", node, hint)
    return _refused(sql, f"has {shown}, which is not allowed", node, _READ_ONLY)


def _shown(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"{node.name}()"
    name = node.sql_name().lower() if isinstance(node, exp.Func) else node.key.upper()
    return f"{name}()" if isinstance(node, exp.Func) else name


def _in_order(tree: exp.Query) -> Iterator[exp.Table]:
    """Its tables, that of the outermost FROM first."""
    top: exp.Expr = tree
    while isinstance(top, exp.SetOperation):
        top = top.this
    begin = top.args.get("from_") if isinstance(top, exp.Select) else None
    if begin is not None and isinstance(begin.this, exp.Table):
        yield begin.this
    yield from tree.find_all(exp.Table, bfs=False)


def _table(sql: str, table: exp.Table, known: list[str] | None) -> str:
    if not isinstance(table.this, exp.Identifier):
        called = table.this
        name = called.name.lower() if isinstance(called, exp.Anonymous) else called.key
        raise _refused(sql, f"reads from {_shown(called)}", called, FOREIGN.get(name, _READ_ONLY))
    odd = [name for name in _given(table) if name not in _TABLE and name != "catalog"]
    if odd:
        what = f"reads {table.name} with {odd[0].replace('_', ' ').upper()}"
        raise _refused(sql, what, table, "name the table alone")
    name = ".".join(part.name for part in table.parts)
    if known is None and (len(table.parts) != 2 or table.db not in LAYERS):
        raise _refused(sql, f"reads {name!r}, which is no table's name", table, _NAMES)
    if known is not None and name not in known:
        what = f"reads {name!r}, which is no table here"
        raise _refused(sql, what, table, did_you_mean(name, known) or _known(known))
    return name


def _outputs(sql: str, tree: exp.Query) -> tuple[str, ...]:
    names: list[str] = []
    for one in tree.selects:
        name = one.alias_or_name if isinstance(one, exp.Alias | exp.Column) else ""
        if not name:
            what = f"has a column without a name: {one.sql(DIALECT)}"
            raise _refused(sql, what, one, "write AS and a name behind it")
        folded = name.lower()
        if folded in (taken.lower() for taken in names):
            raise _refused(sql, f"has the column {name!r} twice", one, "write another AS")
        if folded in _RESERVED or folded.startswith((OWN, "__delta_rs")):
            raise _refused(sql, f"has the column {name!r}", one, "the name is reserved")
        if _NOT_IN_NAMES.search(name):
            what = f"has the column {name!r}, which cannot be a column's name"
            raise _refused(sql, what, one, "write AS with letters, digits and _")
        names.append(name)
    return tuple(names)


def _given(node: exp.Expr) -> list[str]:
    """The arguments of a node that hold something."""
    return [name for name, value in node.args.items() if value not in (None, False, [], "")]


def _known(known: list[str]) -> str:
    return f"known: {', '.join(known)}" if known else "there are no tables yet"


def _refused(sql: str, what: str, node: exp.Expr | None, hint: str) -> QueryRefused:
    at = _start(node) if node is not None else None
    if at is None:
        return QueryRefused(f"sql: it {what}", hint=hint)
    line = sql.count("\n", 0, at) + 1
    column = at - sql.rfind("\n", 0, at)
    return QueryRefused(f"sql:{line}:{column}: it {what}", hint=hint, line=line, column=column)


def _start(node: exp.Expr) -> int | None:
    """Where a node begins in the text; that of what is around it where its own is not known."""
    around: exp.Expr | None = node
    while around is not None:
        found = [at for one in around.walk() if (at := one.meta.get("start")) is not None]
        if found:
            return int(min(found))
        around = around.parent
    return None
