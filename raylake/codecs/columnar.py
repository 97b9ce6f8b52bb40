"""JSON messages into rows at columnar speed; what is rare goes message by message.

The kernels of :mod:`raylake.kernels.json_rows` read each message within its own bounds and vouch
for it or not. Rows that they do not vouch for (unknown fields, values that do not fit,
everything broken) take the exact path (:mod:`raylake.codecs.exact_path`) as in the plain decoder
(:mod:`raylake.codecs.json_codec`); so both give the same rows, dead letters and reasons.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylake import kernels
from raylake.codecs.columns import SchemaTables
from raylake.codecs.exact_json import too_large
from raylake.codecs.exact_path import ExactPath, plan
from raylake.codecs.json_codec import JsonDecoder
from raylake.codecs.port import RESCUED, Decoded, DecoderSpec

Rows = npt.NDArray[np.int64]
_MAX_SLOTS = 8_000_000
"""Slots of one pass: nine bytes each."""


class ColumnarJsonDecoder:
    """Decodes JSON against a schema; immutable, so one may be shared between threads.

    Raises:
        ConfigError: The schema has a type that JSON cannot fill.
    """

    def __init__(self, spec: DecoderSpec) -> None:
        self._plan = plan(spec)
        self.schema = self._plan.schema
        self._limits = (spec.max_message_bytes, spec.max_depth)
        self._tables = SchemaTables(pa.struct(list(self._plan.fields)))
        for name in ("json_rows", "json_columns"):
            kernels.load(name)

    def decode(self, records: pa.RecordBatch) -> Decoded:
        """See :meth:`raylake.codecs.port.Decoder.decode`."""
        rows_at_once = max(1, _MAX_SLOTS // self._tables.width)
        if records.num_rows <= rows_at_once:
            return self._decode(records)
        parts = []
        for start in range(0, records.num_rows, rows_at_once):
            part = self._decode(records.slice(start, rows_at_once))
            if part.additions is not None:
                # All of the batch's new columns at once, as they appear in it.
                return JsonDecoder(self._plan.spec).decode(records)
            parts.append(_moved(part, start))
        return Decoded(
            pa.concat_batches([part.payload for part in parts]),
            np.concatenate([part.kept for part in parts]),
            [dead for part in parts for dead in part.dead],
            by_row=np.concatenate([part.by_row for part in parts if part.by_row is not None]),
        )

    def _decode(self, records: pa.RecordBatch) -> Decoded:
        filled = self._tables.fill(records.column("value"), self._limits)
        kept = filled.rows
        payload = self._payload(filled)
        if len(kept) == records.num_rows:
            return Decoded(payload, kept, by_row=np.empty(0, np.int64))
        doubtful = _others(kept, records.num_rows)
        exact = ExactPath(self._plan)
        self._take(exact, records.column("value"), doubtful)
        grown = exact.additions()
        if grown is not None:
            return Decoded(self._plan.batch([], []), np.empty(0, np.int64), [], grown)
        built = exact.build()
        if not built:
            return Decoded(payload, kept, exact.dead, by_row=doubtful)
        both = np.concatenate([kept, np.asarray(exact.rows, np.int64)])
        order = np.argsort(both, kind="stable")
        merged = pa.concat_batches([payload, *built]).take(pa.array(order))
        return Decoded(merged, both[order], exact.dead, by_row=doubtful)

    def _take(self, exact: ExactPath, values: pa.Array, doubtful: Rows) -> None:
        """Decode the doubtful; those that are too large are not copied to see it."""
        ends = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, 4 * values.offset)
        lengths = ends[doubtful + 1] - ends[doubtful]
        most = self._limits[0]
        for row, length in zip(doubtful.tolist(), lengths.tolist(), strict=True):
            if length > most:
                exact.refuse(row, too_large(length, most))
            else:
                exact.take(row, values[row].as_py())

    def _payload(self, filled: Any) -> pa.RecordBatch:
        count = len(filled.rows)
        own = [pa.array(filled.tombstones.view(np.bool_), pa.bool_())]
        if self.schema.get_field_index(RESCUED) >= 0:
            own.append(pa.nulls(count, pa.string()))
        return pa.RecordBatch.from_arrays([*filled.columns(), *own], schema=self.schema)


def _others(kept: Rows, count: int) -> Rows:
    missing = np.ones(count, dtype=np.bool_)
    missing[kept] = False
    return np.flatnonzero(missing)


def _moved(part: Decoded, by: int) -> Decoded:
    dead = [replace(one, row=one.row + by) for one in part.dead]
    by_row = np.empty(0, np.int64) if part.by_row is None else part.by_row + by
    return Decoded(part.payload, part.kept + by, dead, by_row=by_row)
