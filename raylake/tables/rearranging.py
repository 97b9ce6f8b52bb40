"""Which files a compaction or a Z-order is about, for every engine the same."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from raylake.config.findings import did_you_mean
from raylake.delta.live_rows import SourceFile
from raylake.storage.place import Place
from raylake.tables.errors import BadRequest, UnknownColumn
from raylake.tables.expressions import Scope, condition
from raylake.tables.partition_text import typed_values
from raylake.tables.upkeep_requests import Compact, ZOrder
from raylake.tables.z_curve import MAX_COLUMNS, orderable


def chosen(
    files: Sequence[SourceFile],
    asked: Compact | ZOrder,
    table: tuple[pa.Schema, Sequence[str]],
    what: str,
) -> list[SourceFile]:
    """The live files that are asked for: by their names, in the partitions of a condition.

    Args:
        files: All live files.
        asked: Names and condition.
        table: The table's schema, and its partition columns.
        what: The table and the operation, for messages.

    Raises:
        BadRequest: The condition names a column that is not a partition column.
    """
    where = asked.where
    if asked.files:
        named = set(asked.files)
        files = [one for one in files if one.path in named]
    if where is None:
        return list(files)
    schema, by = table
    checked = condition(where, Scope({"": schema}, f"{what} where"))
    others = sorted({name for _, name in checked.columns} - set(by))
    if others:
        raise BadRequest(
            f"{what}: {others[0]!r} is no partition column",
            hint=f"partition columns: {', '.join(by) or 'none'}",
            column=others[0],
        )
    if not files:
        return []
    values = pa.table(
        {n: typed_values([f.values.get(n) for f in files], schema.field(n)) for n in by}
    )
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("files", values)
        query = f"SELECT COALESCE({checked.sql('duckdb')}, FALSE) AS chosen FROM files"  # noqa: S608
        wanted = pa.table(connection.sql(query).to_arrow_table()).column("chosen").to_pylist()
    return [one for one, taken in zip(files, wanted, strict=True) if taken]


def check_columns(
    root: Place, schema: pa.Schema, partition_by: Sequence[str], columns: Sequence[str]
) -> None:
    """Refuse columns that a table cannot be Z-ordered by.

    Raises:
        BadRequest: Naming the column, or how many there may be.
        UnknownColumn: With the name that is nearest.
    """
    if not 1 <= len(columns) <= MAX_COLUMNS or len(set(columns)) < len(columns):
        raise BadRequest(
            f"{root}: zorder by {len(columns)} columns",
            hint=f"name one to {MAX_COLUMNS} different ones; each further one weakens the others",
        )
    for name in columns:
        if name in partition_by:
            raise BadRequest(f"{root}: zorder: {name!r} is a partition column", column=name)
        if name not in schema.names:
            raise UnknownColumn(
                f"{root}: zorder: there is no column {name!r}",
                hint=did_you_mean(name, schema.names),
                column=name,
            )
        if not orderable(schema.field(name).type):
            raise BadRequest(
                f"{root}: zorder: values of {name!r} ({schema.field(name).type}) have no order",
                column=name,
            )
