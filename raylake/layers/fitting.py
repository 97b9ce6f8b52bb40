"""A derived table's columns, held against what its source makes of them by now.

New columns are added by the step that brings them. A column whose new type holds each value of the
old one is widened, which writes all files anew, before the step; a table that is too large for
that, or a type of another kind, is refused with the command that makes the table anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from deltalake import Schema

from raylake.delta.log_reader import LogReader
from raylake.delta.schema import arrow_schema
from raylake.delta.tables_there import is_table
from raylake.layers.errors import TransformRefused
from raylake.tables.errors import BadRequest
from raylake.tables.rows import lossy
from raylake.tables.service import TableService
from raylake.tables.upkeep_requests import WidenColumns


class Fitting:
    """Keeps a table, and what is kept beside it, as wide as its source needs them.

    Args:
        name: The table, ``layer.name``.
        limit_bytes: A table with more bytes of data files is not rewritten.
        tables: Writes.
    """

    def __init__(self, name: str, limit_bytes: int, tables: TableService) -> None:
        self._name = name
        self._limit_bytes = limit_bytes
        self._tables = tables
        self._known: pa.Schema | None = None

    def __call__(self, wanted: pa.Schema, addresses: Iterable[str]) -> None:
        """Widen the columns that need it.

        Args:
            wanted: The columns that the source makes now.
            addresses: The table, and those beside it that have some of its columns.

        Raises:
            TransformRefused: One is too large, or a column's type is of another kind; naming both
                types.
        """
        if self._known is not None and self._known.equals(wanted):
            return
        for address in addresses:
            if is_table(address):
                self._fit(wanted, address)
        self._known = wanted

    def _fit(self, wanted: pa.Schema, address: str) -> None:
        found = LogReader(address).snapshot()
        there = arrow_schema(Schema.from_json(found.metadata.schema_json))
        types = {}
        for one in wanted:
            old = there.field(one.name).type if one.name in there.names else one.type
            if not lossy(one.type, old):
                continue
            if lossy(old, one.type):
                what = f"column {one.name!r} is {old}, and the source makes {one.type}"
                raise self._refused(what)
            types[one.name] = one.type
        if not types:
            return
        said = ", ".join(
            f"{name!r} from {there.field(name).type} to {types[name]}" for name in types
        )
        size = sum(found.files.column("size").to_pylist())
        if size > self._limit_bytes:
            raise self._refused(
                f"the source's columns have become wider ({said}): the table has {size} bytes, "
                f"and above widen_limit, {self._limit_bytes} bytes, it is not rewritten by itself"
            )
        try:
            self._tables.execute(address, WidenColumns(types))
        except BadRequest as error:
            raise self._refused(error.message) from error

    def _refused(self, what: str) -> TransformRefused:
        return TransformRefused(
            f"{self._name}: {what}",
            hint=f"`raylake transform run FILE --full-refresh {self._name}` makes it anew, beside "
            "its readers; or write the type under `types:`",
        )
