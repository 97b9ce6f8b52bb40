"""How delta-rs writes data files: with the settings of RayLake's own (ADR 15)."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from deltalake import ColumnProperties, WriterProperties

from raylake.delta.column_encodings import column_encodings

_PLAIN: Final = "PLAIN"


def written_as(rows: pa.Table | None = None) -> WriterProperties:
    """The settings for files of some rows; for rows that nobody has seen, but for the codec none.

    Nested columns keep delta-rs's encodings.
    """
    columns = {}
    if rows is not None and rows.num_rows:
        flat = [field.name for field in rows.schema if not pa.types.is_nested(field.type)]
        found = column_encodings(rows.select(flat), None)
        for name in flat:
            repeats = name in found.dictionary
            encoding = None if repeats else found.plain.get(name, _PLAIN)
            columns[name] = ColumnProperties(dictionary_enabled=repeats, encoding=encoding)
    return WriterProperties(
        compression="ZSTD", compression_level=1, column_properties=columns or None
    )
