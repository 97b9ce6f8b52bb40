"""What engines would read differently in an expression (docs/adr/0024)."""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable
from typing import Final

import pyarrow as pa
from sqlglot import exp

SPARK: Final = "spark"
"""sqlglot's name of what Spark reads."""
_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_COMPARED: Final = (*_COMPARISONS, exp.In, exp.Between, exp.NullSafeEQ, exp.NullSafeNEQ)
_DOUBLES_DIGITS: Final = 15
"""Digits that a double always keeps."""
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


def exact_decimals(tree: exp.Expr, kind_of: Callable[[exp.Column], pa.DataType]) -> str:
    """Write numbers that decimal columns are compared with as decimals of the column's type.

    To DataFusion a number with a decimal point is a double, and so becomes the column: then a
    delete of ``money > 9999999999999999.98`` takes a row that has just that. A number that the
    column cannot hold is left as it is while a double tells it from every value of the column.

    Args:
        tree: An expression whose columns are resolved; it is changed.
        kind_of: The type of a column.

    Returns:
        Why engines differ all the same; empty where they do not.
    """
    for node in list(tree.find_all(*_COMPARED)):
        operands = [one.unnest() for one in node.iter_expressions()]
        kinds = [kind_of(one) for one in operands if isinstance(one, exp.Column)]
        kinds = [one for one in kinds if pa.types.is_decimal(one)]
        if not kinds or max(one.precision for one in kinds) <= _DOUBLES_DIGITS:
            continue
        for one in operands:
            number = one.this.unnest() if isinstance(one, exp.Neg) else one
            if not isinstance(number, exp.Literal) or number.is_string:
                continue
            if not all(decimal_holds(number.name, one.precision, one.scale) for one in kinds):
                if len(decimal.Decimal(number.name).as_tuple().digits) > _DOUBLES_DIGITS:
                    return f"compares {kinds[0]} with {number.name}, which it cannot hold"
                continue
            plain = exp.Literal.string(f"{decimal.Decimal(number.name):f}")
            number.replace(exp.cast(plain, f"DECIMAL({kinds[0].precision}, {kinds[0].scale})"))
    return ""


def decimal_holds(text: str, precision: int, scale: int) -> bool:
    """Whether a decimal of that precision and scale holds a finite number without rounding it."""
    number = decimal.Decimal(text).normalize()
    places = max(0, -int(number.as_tuple().exponent))
    return places <= scale and abs(number) < decimal.Decimal(10) ** (precision - scale)


def with_full_names(tree: exp.Expr) -> exp.Expr:
    """Functions by the names that delta-rs can write into a commit's parameters.

    Of ``LENGTH`` it says that it "cannot convert the expression to string", or panics.
    """
    return tree.transform(
        lambda node: (
            exp.Anonymous(this="character_length", expressions=[node.this])
            if isinstance(node, exp.Length)
            else node
        )
    )


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
