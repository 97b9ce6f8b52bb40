"""JSON messages into rows, each within its own bounds.

What becomes of a value, by the column's type ("kept" is a row whose ``_rescued_data`` also has
the exact text; with ``unknown_fields: reject`` there is no such column and the record is a dead
letter instead):

=============  ==========================  ===============================  =====================
column         fits                        kept                             dead letter
=============  ==========================  ===============================  =====================
string         string; number and boolean                                   object, array
               as their exact text
boolean        true, false                                                  anything else
byte, short,   integer in range, also      an integer that a long holds:    fraction, beyond 64
int            written 1.0 or 1e3          the column is null               bits, other kinds
long           the same                    fraction: the column is null     beyond 64 bits, other
                                           (an inferred long may have to    kinds
                                           become a double)
double         number whose digits it      other numbers: the column has    beyond its range
               holds                       the nearest double               (1e400), other kinds
float          the same                    nearest float; null beyond its   the same
                                           range
decimal(p,s)   number, or its text in a    up to 38 digits in all: the      more digits, other
               string, with no more        column is null                   kinds
               digits than p and s allow
date           ``YYYY-MM-DD``                                               anything else
timestamp      ISO 8601 with seconds or    digits beyond microseconds: cut  anything else
               not, ``Z`` or an offset     in the column
               (none means UTC); whole
               milliseconds since 1970
               from 10^11 to 10^14
timestamp_ntz  the same without offset     the same                         number, offset, …
               and not as a number
binary         base64                      base64 that is not canonical     anything else
struct         object                      unknown fields, and what does    other kinds; an inner
                                           not fit in its fields            dead letter
array          array                       the whole array, when an         the same
                                           element does not fit
map            object                      entries that do not fit          the same
=============  ==========================  ===============================  =====================

``null`` and a field that is not there are null in every column. Unknown fields follow
``unknown_fields``: ``evolve`` asks for columns (:mod:`raylake.codecs.shapes`) and keeps in
``_rescued_data`` what can be none (:mod:`raylake.codecs.names`, null, ``[]``, ``{}``, beyond
``max_columns``); ``rescue`` keeps them all there; ``reject`` makes the record a dead letter.
``_rescued_data`` is one JSON object with the message's nesting and only these fields.

A message that is not exactly one JSON object in valid UTF-8, with unique names, no NaN, no lone
surrogate, within ``max_depth`` and ``max_message_bytes``, is a dead letter of stage ``decode``.
A null value is a tombstone: a row with ``_tombstone`` true and every other column null.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from raylake.codecs import vouch
from raylake.codecs.exact_path import BUILD_ERRORS, ExactPath, plan
from raylake.codecs.nested import converter
from raylake.codecs.port import Decoded, DecoderSpec


class JsonDecoder:
    """Decodes JSON against a schema; immutable, so one may be shared between threads.

    Messages that :mod:`raylake.codecs.vouch` is sure of go to Arrow by columns. The others are
    parsed exactly, one by one. Both ways give the same rows.

    Raises:
        ConfigError: The schema has a type that JSON cannot fill.
    """

    def __init__(self, spec: DecoderSpec) -> None:
        self._plan = plan(spec)
        self.schema = self._plan.schema
        self._columns = [
            (field.name, vouch.builder(field.type, converter(field.type)))
            for field in self._plan.fields
        ]
        self._check_digits = any(
            vouch.has_binary_numbers(field.type) for field in self._plan.fields
        )
        deepest = 1 + max((vouch.nesting(field.type) for field in self._plan.fields), default=0)
        by_one = spec.careful or deepest > spec.max_depth
        self._fast_bytes = -1 if by_one else spec.max_message_bytes

    def decode(self, records: pa.RecordBatch) -> Decoded:
        """See :meth:`raylake.codecs.port.Decoder.decode`."""
        values: list[bytes | None] = records.column("value").to_pylist()
        rows, arrays, doubtful = self._fast(values)
        exact = ExactPath(self._plan)
        for row in doubtful:
            exact.take(row, values[row])
        grown = exact.additions()
        if grown is not None:
            nothing = self._plan.batch([], [])
            return Decoded(nothing, np.empty(0, np.int64), [], grown)
        own = self._plan.own_columns([False] * len(rows), [None] * len(rows))
        batches = [pa.RecordBatch.from_arrays([*arrays, *own], schema=self.schema), *exact.build()]
        kept = np.asarray([*rows, *exact.rows], np.int64)
        if len(batches) == 1:
            return Decoded(batches[0], kept, exact.dead)
        order = np.argsort(kept, kind="stable")
        both = pa.Table.from_batches(batches).combine_chunks().take(pa.array(order))
        payload = pa.RecordBatch.from_arrays(
            [_one_chunk(column) for column in both.columns], schema=self.schema
        )
        return Decoded(payload, kept[order], exact.dead)

    def _fast(self, values: list[bytes | None]) -> tuple[list[int], list[pa.Array], list[int]]:
        """The vouched rows, their columns, and the rows that need the exact path."""
        rows: list[int] = []
        parsed: list[dict[str, Any]] = []
        messages: list[bytes] = []
        doubtful: list[int] = []
        loads, known = orjson.loads, frozenset(self._plan.fields.names).issuperset
        for row, value in enumerate(values):
            if value is None or len(value) > self._fast_bytes:
                doubtful.append(row)
                continue
            try:
                node = loads(value)
            except orjson.JSONDecodeError:
                doubtful.append(row)
                continue
            if type(node) is dict and known(node):
                rows.append(row)
                parsed.append(node)
                messages.append(value)
            else:
                doubtful.append(row)
        good, arrays = self._vouch(parsed, messages)
        if not good.all():
            numbers = np.asarray(rows)
            doubtful = sorted([*doubtful, *numbers[~good].tolist()])
            rows = numbers[good].tolist()
            arrays = [array.filter(pa.array(good)) for array in arrays]
        return rows, arrays, doubtful

    def _vouch(
        self, parsed: list[dict[str, Any]], messages: list[bytes]
    ) -> tuple[vouch.Mask, list[pa.Array]]:
        good = np.ones(len(parsed), dtype=bool)
        arrays: list[pa.Array] = []
        strings = np.fromiter(map(len, parsed), np.int64, len(parsed))
        for field, (name, build) in zip(self._plan.fields, self._columns, strict=True):
            column = [node.get(name) for node in parsed]
            strings += vouch.strings(column)
            try:
                array, doubtful = build(column)
            except BUILD_ERRORS:
                array, doubtful = pa.nulls(len(column), field.type), range(len(column))
            arrays.append(array)
            good[list(doubtful)] = False
        good &= vouch.quotes(messages) == 2 * strings
        if self._check_digits:
            good &= np.fromiter(map(vouch.digits_fit, messages), bool, len(messages))
        return good, arrays


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
