"""What a keyed table's definition says of its merges: conditions, and the columns that are written.

All of it is checked against the table's columns before anything is written, by the one dialect of
:mod:`raylake.tables.expressions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from raylake.layers.errors import TransformRefused
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.shape_plan import ShapePlan
from raylake.near import did_you_mean
from raylake.tables.cow_conditions import Judge
from raylake.tables.errors import BadRequest
from raylake.tables.expressions import Expression, Scope, condition

_WORDS: Final = ("latest", "source", "target")


def check_merge(spec: RowWiseSpec, columns: pa.Schema) -> None:
    """Refuse conditions and lists of columns that do not fit the table.

    Args:
        spec: The table's definition.
        columns: The columns of its rows.

    Raises:
        TransformRefused: Naming what does not fit.
    """
    both = {"source": columns, "target": columns}
    source = {"source": columns}
    asked: dict[str, tuple[str | None, Mapping[str, pa.Schema]]] = {
        "resolve": (None if spec.resolve in _WORDS else spec.resolve, both),
        "update_when": (spec.update_when, both),
        "insert_when": (spec.insert_when, source),
        "delete_when": (spec.delete_when, source),
    }
    for what, (text, sides) in asked.items():
        if text is not None:
            _checked(text, Scope(sides, f"{spec.name}: {what}"))
    for what, names in (
        ("update_columns", spec.update_columns),
        ("insert_columns", spec.insert_columns),
    ):
        for name in names or ():
            if name not in columns.names:
                raise TransformRefused(
                    f"{spec.name}: {what}: there is no column {name!r}",
                    hint=did_you_mean(name, columns.names),
                    column=name,
                )


def parted(spec: RowWiseSpec, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows that stay rows, and those that delete their keys (``delete_when``).

    Args:
        spec: The table's definition.
        rows: Rows in the table's columns.
    """
    if spec.delete_when is None or not rows.num_rows:
        return rows, rows.slice(0, 0)
    scope = Scope({"source": rows.schema}, f"{spec.name}: delete_when")
    checked = _checked(spec.delete_when, scope)
    read = rows.select(sorted({name for _, name in checked.columns}))
    with Judge() as judge:
        holds = pa.array(judge.holds(checked.sql("duckdb"), rows.num_rows, {"source": read}))
    return rows.filter(pc.invert(holds)), rows.filter(holds)


def written(spec: RowWiseSpec, plan: ShapePlan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that a change of a row writes, and those that a new row has.

    What orders rows is always written, or later steps would compare with what came before; and a
    column that a partition is made of brings the partition's column.
    """
    return (
        _with_needed(spec.update_columns, plan, ()),
        _with_needed(spec.insert_columns, plan, spec.keys),
    )


def _with_needed(
    names: tuple[str, ...] | None, plan: ShapePlan, more: tuple[str, ...]
) -> tuple[str, ...]:
    known = tuple(plan.schema.names)
    if names is None:
        return known
    wanted = {*names, *plan.order, *more}
    wanted |= {one.name for one in plan.partitions if one.column in wanted}
    return tuple(name for name in known if name in wanted)


def _checked(text: str, scope: Scope) -> Expression:
    try:
        return condition(text, scope)
    except BadRequest as error:
        raise TransformRefused(error.message, hint=error.hint, **error.context) from None
