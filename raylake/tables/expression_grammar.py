"""What an expression of a user's may hold: parsed, and every node held against an allow-list.

Which columns there are is asked in :mod:`raylake.tables.expressions`.
"""

from __future__ import annotations

from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from raylake.tables.errors import BadExpression, TimeWithoutZone
from raylake.tables.likeness import differs
from raylake.tables.times import has_zone

MAX_CHARACTERS: Final = 20_000
COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
CONDITIONS: Final = (
    *COMPARISONS,
    exp.And,
    exp.Or,
    exp.Not,
    exp.Is,
    exp.In,
    exp.Between,
    exp.Like,
    exp.ILike,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Boolean,
)
"""What is true, false or unknown."""
_ALLOWED: Final = (
    *CONDITIONS,
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Null,
    exp.Paren,
    exp.Case,
    exp.If,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Div,
    exp.Mod,
    exp.Neg,
    exp.DPipe,
    exp.Cast,
    exp.DataType,
    exp.DataTypeParam,
    exp.Coalesce,
    exp.Lower,
    exp.Upper,
    exp.Trim,
    exp.Length,
    exp.Abs,
    exp.Nullif,
    exp.Substring,
)
_TYPES: Final = frozenset(
    {
        exp.DataType.Type.BIGINT,
        exp.DataType.Type.BOOLEAN,
        exp.DataType.Type.DATE,
        exp.DataType.Type.DECIMAL,
        exp.DataType.Type.DOUBLE,
        exp.DataType.Type.FLOAT,
        exp.DataType.Type.INT,
        exp.DataType.Type.SMALLINT,
        exp.DataType.Type.TEXT,
        exp.DataType.Type.TIMESTAMP,
        exp.DataType.Type.TIMESTAMPTZ,
        exp.DataType.Type.TINYINT,
        exp.DataType.Type.VARCHAR,
    }
)
# sqlglot's Cast has kinds of its own below it, which engines do not read alike.
_EXACT: Final = frozenset(_ALLOWED)


def allowed(text: str, where: str) -> exp.Expr:
    """The tree of an expression that holds only what means the same to every engine.

    Args:
        text: The expression.
        where: What it is, for messages: ``update_when of …``.

    Raises:
        BadExpression: It does not parse, or holds what is not allowed.
        TimeWithoutZone: It casts a time without a zone.
    """
    tree = _parsed(text, where)
    for node in tree.walk():
        _check(node, text, where)
        if reason := differs(node):
            raise bad(text, where, f"{reason}: engines differ there")
    return tree


def names_in(text: str, where: str) -> list[tuple[str, ...]]:
    """The columns that a condition names, as it writes them, part by part.

    For conditions whose tables are not known yet: a column may be of any type.

    Raises:
        BadExpression: It does not parse, holds what is not allowed, or is no condition.
        TimeWithoutZone: It casts a time without a zone.
    """
    tree = allowed(text, where)
    if not isinstance(tree.unnest(), (*CONDITIONS, exp.Case, exp.Coalesce, exp.Column)):
        raise bad(text, where, "is a value, not a condition")
    columns = list(tree.find_all(exp.Column))
    if any(isinstance(column.this, exp.Star) for column in columns):
        raise bad(text, where, "holds *, which is not allowed")
    return [tuple(part.name for part in column.parts) for column in columns]


def require_zone(node: exp.Expr, text: str, where: str) -> None:
    """Refuse a literal that is a time without a zone.

    Raises:
        TimeWithoutZone: It is one.
    """
    if isinstance(node, exp.Literal) and node.is_string and not has_zone(node.name):
        raise TimeWithoutZone(
            f"{where}: {text!r} holds a time without a zone: {node.name!r}",
            hint="write 2026-01-31T12:00:00Z, or another zone such as +02:00",
        )


def bad(text: str, where: str, what: str) -> BadExpression:
    """The error for an expression."""
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return BadExpression(
        f"{where}: {shown!r} {what}",
        hint="conditions hold columns, values, comparisons, and/or/not and a few functions",
        expression=shown,
    )


def _parsed(text: str, where: str) -> exp.Expr:
    if not isinstance(text, str) or not text.strip():
        raise BadExpression(f"{where}: the expression is empty", hint="leave it out instead")
    if len(text) > MAX_CHARACTERS:
        raise BadExpression(
            f"{where}: the expression has {len(text)} characters, {MAX_CHARACTERS} may be",
            hint="give long lists of values as the source of an upsert",
        )
    try:
        trees = sqlglot.parse(text)
    except (SqlglotError, RecursionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0] or "nested too deeply"
        raise bad(text, where, f"does not parse: {reason}") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Expr):
        raise bad(text, where, "is not one expression")
    return trees[0]


def _check(node: exp.Expr, text: str, where: str) -> None:
    kind = type(node)
    if kind not in _EXACT:
        name = node.name if isinstance(node, exp.Anonymous) else kind.__name__
        raise bad(text, where, f"holds {name}, which is not allowed")
    if isinstance(node, exp.DataType) and node.this not in _TYPES:
        raise bad(text, where, f"casts to {node.sql()}, which is not allowed")
    if isinstance(node, exp.In) and set(node.args) - {"this", "expressions"}:
        extra = [k for k in node.args if k not in ("this", "expressions") and node.args[k]]
        if extra:
            raise bad(text, where, "asks for IN something else than values")
    if isinstance(node, exp.Div | exp.Mod):
        _check_divisor(node, text, where)
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.TIMESTAMP:
        if not isinstance(node.this, exp.Literal):
            raise bad(text, where, "casts something else than a text to a timestamp")
        require_zone(node.this, text, where)
        # What has a zone is a point in time; plain TIMESTAMP would drop it.
        node.to.set("this", exp.DataType.Type.TIMESTAMPTZ)


def _check_divisor(node: exp.Div | exp.Mod, text: str, where: str) -> None:
    divisor = node.expression
    number = divisor.name if isinstance(divisor, exp.Literal) and not divisor.is_string else ""
    if not number or float(number) == 0:
        raise bad(text, where, "divides by something else than a number")
    if isinstance(node, exp.Div) and "." not in number:
        raise bad(text, where, f"divides by {number}: write {number}.0, engines differ otherwise")
