"""Record timestamps as a table's timestamps."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")
_MOST_MS = (2**63 - 1) // 1000


def moments(timestamp_ms: pa.Array) -> pa.Array:
    """Milliseconds since the epoch as timestamps of microseconds.

    A producer may set any number; one that no table can hold (beyond the year 294,000) is null.
    """
    try:
        return _cast(timestamp_ms)
    except pa.ArrowInvalid:
        fits = pc.and_(
            pc.less_equal(timestamp_ms, _MOST_MS), pc.greater_equal(timestamp_ms, -_MOST_MS)
        )
        return _cast(pc.if_else(fits, timestamp_ms, pa.scalar(None, pa.int64())))


def _cast(timestamp_ms: pa.Array) -> pa.Array:
    return timestamp_ms.cast(pa.timestamp("ms", tz="UTC")).cast(TIMESTAMP)
