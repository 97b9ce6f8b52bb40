"""Partition values between the text that Delta's log has and the type that a column has."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def typed_values(texts: Sequence[str | None], field: pa.Field) -> pa.Array:
    """Partition values in their column's type; an empty text is null, as the protocol has it.

    Raises:
        pa.ArrowInvalid: A text is no value of this type.
    """
    values = pa.array([text or None for text in texts], pa.string())
    kind = field.type
    if pa.types.is_timestamp(kind):
        plain = pc.replace_substring_regex(values, r"Z$", "").cast(pa.timestamp("us"))
        return pc.assume_timezone(plain, "UTC") if kind.tz is not None else plain
    if pa.types.is_boolean(kind):
        return pc.utf8_lower(values).cast(kind)
    return values.cast(kind)
