"""What engines would read differently in an expression (docs/adr/0024)."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
from sqlglot import exp

SPARK: Final = "spark"
"""sqlglot's name of what Spark reads."""
_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_RECKONING: Final = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_TEXT: Final = frozenset({exp.DataType.Type.TEXT, exp.DataType.Type.VARCHAR})
_STRAY_ESCAPE: Final = re.compile(r"(?:[^\\]|^)(?:\\\\)*\\(?![%_\\])")


def differs(node: exp.Expr) -> str:
    """Why engines differ on a node, whatever its columns; empty where they do not."""
    if isinstance(node, exp.Substring):
        start = node.args.get("start")
        text = start.name if isinstance(start, exp.Literal) and not start.is_string else ""
        if not text.isdecimal() or int(text) < 1:
            return "takes a substring from something else than a position of 1 or more"
    if isinstance(node, exp.Like | exp.ILike):
        pattern = node.expression
        if not isinstance(pattern, exp.Literal) or not pattern.is_string:
            return "compares with a pattern that is no text in single quotes"
        if _STRAY_ESCAPE.search(pattern.name):
            return "holds a pattern with a backslash before something else than %, _ or a backslash"
    return ""


def differs_on(column: exp.Column, kind: pa.DataType) -> str:
    """Why engines differ on what is done with a column of a type; empty where they do not."""
    parent = column.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    if isinstance(parent, exp.Cast) and parent.to.this in _TEXT and _written_differently(kind):
        return f"casts {column.name!r}, which is {kind}, to text"
    if pa.types.is_string(kind) and isinstance(parent, (*_COMPARISONS, exp.In, exp.Between)):
        numbers = [n for n in parent.iter_expressions() if _is_number(n)]
        if numbers:
            return f"compares the text {column.name!r} with the number {numbers[0].sql()}"
    return ""


def with_doubles(tree: exp.Expr) -> exp.Expr:
    """Numbers with a decimal point count as doubles where they are reckoned with, as elsewhere.

    To Spark they are decimals, whose quotients end after a few digits.
    """
    found = tree.copy()
    for one in list(found.find_all(exp.Literal)):
        parent = one.parent
        while isinstance(parent, exp.Neg | exp.Paren):
            parent = parent.parent
        if not one.is_string and "." in one.name and isinstance(parent, _RECKONING):
            one.replace(exp.cast(one.copy(), exp.DataType.Type.DOUBLE))
    return found


def _is_number(node: exp.Expr) -> bool:
    while isinstance(node, exp.Neg | exp.Paren):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string


def _written_differently(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_timestamp(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
    )
