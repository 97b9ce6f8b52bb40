"""What delta-rs 1.6 does wrong without saying so, refused by name before it begins."""

from __future__ import annotations

import decimal
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from raylake.delta.live_rows import is_absolute
from raylake.delta.log_reader import LogReader
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.errors import FeatureUnsupported

_SAFE: Final = "/!$&'()+,-.:;=@_~"
"""What delta-rs leaves as it is in a path that it writes into a log, beside letters and digits."""
_PLAIN: Final = r"^[A-Za-z0-9/!$&'()+,\-.:;=@_~]*$"
_HINT: Final = "nothing was changed; use engine: spark"


def refuse_spellings(root: Place, handle: DeltaTable) -> None:
    """Refuse to remove files whose paths the log spells in another way than delta-rs would.

    It writes ``remove`` with the path in its own spelling, which is another file to the log: the
    old one stays live, and rows stay or double. Spark leaves letters such as ``ü`` as they are.

    Raises:
        FeatureUnsupported: Naming a file.
    """
    # delta-rs's handle gives paths in its own spelling.
    paths = LogReader(str(root)).snapshot(int(handle.version())).files.column("path")
    odd = paths.filter(pc.invert(pc.match_substring_regex(paths.cast(pa.string()), _PLAIN)))
    for path in odd.to_pylist():
        if not is_absolute(path) and quote(unquote(path), safe=_SAFE) != path:
            raise FeatureUnsupported(
                f"{root}: the log names {path!r} in a spelling that delta-rs cannot remove",
                hint=f"{_HINT}, or Z-order the table first, which names its files anew",
                feature="spelling of paths",
            )


def refuse_partition_values(root: Place, handle: DeltaTable, rows: pa.Table) -> None:
    """Refuse rows with partition values that delta-rs writes as other ones.

    Raises:
        FeatureUnsupported: Naming the column.
    """
    for name in handle.metadata().partition_columns:
        if name not in rows.schema.names:
            continue
        column = rows.column(name)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            raise _unfit(root, name, "bytes as partition values")
        if pa.types.is_decimal(column.type):
            whole = pc.equal(pc.round(column, round_mode="towards_zero"), column)
            zero = pa.scalar(decimal.Decimal(0), column.type)
            if pc.any(pc.and_(pc.less(column, zero), pc.invert(whole))).as_py():
                raise _unfit(root, name, "negative decimals with a fraction as partition values")


def refuse_partition_updates(root: Place, handle: DeltaTable, columns: Iterable[str]) -> None:
    """Refuse to compute partition values that delta-rs may write as other ones.

    Raises:
        FeatureUnsupported: Naming the column.
    """
    schema = arrow_schema(handle.schema())
    for name in set(columns) & set(handle.metadata().partition_columns):
        kind = schema.field(name).type
        if pa.types.is_decimal(kind) or pa.types.is_binary(kind):
            raise _unfit(root, name, f"new values of a partition column of {kind}")


def _unfit(root: Place, column: str, what: str) -> FeatureUnsupported:
    return FeatureUnsupported(
        f"{root}: column {column!r}: delta-rs writes {what} wrongly",
        hint=_HINT,
        feature=what,
        column=column,
    )
