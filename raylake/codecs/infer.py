"""The schema of a topic from a bounded sample of its messages."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from raylake.codecs.exact_json import BadMessage, parse
from raylake.codecs.shapes import Shape, additions

SAMPLE_MESSAGES = 1000
SAMPLE_BYTES = 16 * 1024 * 1024


def infer_schema(
    values: Iterable[bytes | None],
    *,
    max_messages: int = SAMPLE_MESSAGES,
    max_bytes: int = SAMPLE_BYTES,
    max_columns: int = 1000,
) -> pa.Schema:
    """A schema from JSON messages, with wide types (:mod:`raylake.codecs.shapes` has the rules).

    Columns come in order of first appearance. Messages that are not JSON objects, null values,
    names that can be no column and fields beyond ``max_columns`` are passed over.

    Args:
        values: Messages; no more are taken than the limits allow.
        max_messages: Greatest number of messages looked at.
        max_bytes: Greatest number of bytes looked at, all messages together.
        max_columns: Greatest number of fields, nested ones included.

    Returns:
        The schema; without columns when no message had one.
    """
    seen = Shape(top_level=True)
    left = max_bytes
    for number, value in enumerate(values):
        if number >= max_messages or left <= 0:
            break
        if value is None:
            continue
        left -= len(value)
        try:
            node = parse(value, max_depth=64, max_bytes=max_bytes)
        except BadMessage:
            continue
        for name, inner in node.items():
            seen.see_field(name, inner)
    return additions(pa.schema([]), seen, max_columns) or pa.schema([])
