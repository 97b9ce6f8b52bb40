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
long           the same                                                     the same
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

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from raylake.codecs import vouch
from raylake.codecs.exact_json import BadMessage, Node, clipped, parse, to_text
from raylake.codecs.nested import converter, struct_converter
from raylake.codecs.port import RESCUED, TOMBSTONE, DeadRecord, Decoded, DecoderSpec
from raylake.codecs.scalars import FITS, Row, dotted
from raylake.codecs.shapes import Shape, additions
from raylake.codecs.types import normalise_type
from raylake.errors import ConfigError

_BUILD_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError)
_MAX_REASON_CHARACTERS = 500
_MAX_KEY_SETS = 10_000


class JsonDecoder:
    """Decodes JSON against a schema; immutable, so one may be shared between threads.

    Messages that :mod:`raylake.codecs.vouch` is sure of go to Arrow by columns. The others are
    parsed exactly, one by one. Both ways give the same rows.

    Raises:
        ConfigError: The schema has a type that JSON cannot fill.
    """

    def __init__(self, spec: DecoderSpec) -> None:
        if spec.schema is None:
            raise ConfigError("a JSON decoder needs a schema", hint="give one, or infer it")
        self._spec = spec
        self._fields = pa.schema(
            [
                pa.field(field.name, normalise_type(field.type))
                for field in spec.schema
                if not field.name.startswith("_")
            ]
        )
        self._strict = spec.unknown_fields == "reject"
        own = [pa.field(TOMBSTONE, pa.bool_())]
        own += [] if self._strict else [pa.field(RESCUED, pa.string())]
        self.schema = pa.schema([*self._fields, *own])
        self._convert = struct_converter(self._fields)
        self._columns = [
            (field.name, vouch.builder(field.type, converter(field.type))) for field in self._fields
        ]
        self._check_digits = any(vouch.has_binary_numbers(field.type) for field in self._fields)
        self._known = frozenset(self._fields.names)
        self._key_sets = functools.lru_cache(_MAX_KEY_SETS)(self._known.issuperset)

    def decode(self, records: pa.RecordBatch) -> Decoded:
        """See :meth:`raylake.codecs.port.Decoder.decode`."""
        values: list[bytes | None] = records.column("value").to_pylist()
        vouched, arrays, doubtful = self._fast(values)
        exact = _Exact(self, len(values))
        for index in doubtful:
            exact.take(index, values[index])
        grown = exact.additions()
        if grown is not None:
            empty = self.schema.empty_table().to_batches() or [self._batch([], [])]
            return Decoded(empty[0], np.empty(0, np.int64), [], grown)
        exact.build()
        return self._joined(vouched, arrays, exact)

    def _fast(self, values: list[bytes | None]) -> tuple[list[int], list[pa.Array], list[int]]:
        """The vouched rows, their columns, and the rows that need the exact path."""
        rows: list[int] = []
        parsed: list[dict[str, Any]] = []
        doubtful: list[int] = []
        loads, known, limit = orjson.loads, self._key_sets, self._spec.max_message_bytes
        for index, value in enumerate(values):
            if value is None or len(value) > limit or self._spec.careful:
                doubtful.append(index)
                continue
            try:
                node = loads(value)
            except orjson.JSONDecodeError:
                doubtful.append(index)
                continue
            if type(node) is dict and known(tuple(node)):
                rows.append(index)
                parsed.append(node)
            else:
                doubtful.append(index)
        good, arrays = self._vouch(parsed, [values[index] or b"" for index in rows])
        if not good.all():
            doubtful = sorted([*doubtful, *np.asarray(rows)[~good].tolist()])
            rows = np.asarray(rows)[good].tolist()
            arrays = [array.filter(pa.array(good)) for array in arrays]
        return rows, arrays, doubtful

    def _vouch(
        self, parsed: list[dict[str, Any]], messages: list[bytes]
    ) -> tuple[vouch.Mask, list[pa.Array]]:
        good = np.ones(len(parsed), dtype=bool)
        arrays: list[pa.Array] = []
        strings = np.fromiter(map(len, parsed), np.int64, len(parsed))
        for name, build in self._columns:
            column = [node.get(name) for node in parsed]
            strings += vouch.strings(column)
            array, doubtful = build(column)
            arrays.append(array)
            good[list(doubtful)] = False
        good &= vouch.quotes(messages) == 2 * strings
        if self._check_digits:
            good &= np.fromiter(map(vouch.digits_fit, messages), bool, len(messages))
        return good, arrays

    def _joined(self, rows: list[int], arrays: list[pa.Array], exact: _Exact) -> Decoded:
        own = self._own_columns([False] * len(rows), [None] * len(rows))
        fast = pa.RecordBatch.from_arrays([*arrays, *own], schema=self.schema)
        if not exact.rows:
            return Decoded(fast, np.asarray(rows, np.int64), exact.dead)
        kept = np.asarray([*rows, *exact.rows], np.int64)
        order = np.argsort(kept, kind="stable")
        slow = self._batch(exact.nodes, exact.texts)
        both = pa.Table.from_batches([fast, slow]).combine_chunks().take(pa.array(order))
        payload = pa.RecordBatch.from_arrays(
            [_one_chunk(column) for column in both.columns], schema=self.schema
        )
        return Decoded(payload, kept[order], exact.dead)

    def _batch(self, nodes: Sequence[dict[str, Any] | None], texts: list[str | None]) -> Any:
        """The batch of converted messages; None is a tombstone. May raise ``_BUILD_ERRORS``."""
        arrays = [
            pa.array([node and node.get(field.name) for node in nodes], field.type)
            for field in self._fields
        ]
        own = self._own_columns([node is None for node in nodes], texts)
        return pa.RecordBatch.from_arrays([*arrays, *own], schema=self.schema)

    def _own_columns(self, tombstones: list[bool], texts: list[str | None]) -> list[pa.Array]:
        own = [pa.array(tombstones, pa.bool_())]
        return own if self._strict else [*own, pa.array(texts, pa.string())]


class _Exact:
    """The exact path over the doubtful messages of one batch."""

    def __init__(self, decoder: JsonDecoder, rows: int) -> None:
        del rows
        self._decoder = decoder
        self._spec = decoder._spec
        self.rows: list[int] = []
        self.nodes: list[dict[str, Any] | None] = []
        self.texts: list[str | None] = []
        self.dead: list[DeadRecord] = []
        self._seen: Shape | None = None

    def take(self, index: int, value: bytes | None) -> None:
        """Convert one message."""
        if value is None:
            self._keep(index, None, None)
            return
        row = Row()
        try:
            node = parse(
                value, max_depth=self._spec.max_depth, max_bytes=self._spec.max_message_bytes
            )
            converted, kept = self._decoder._convert(node, (), row)
            if self._spec.unknown_fields == "reject":
                _refuse(row, kept)
        except BadMessage as bad:
            self._bury(index, bad.stage, bad.reason, bad.error_class)
            return
        if self._spec.unknown_fields == "evolve":
            self._see(row)
        self._keep(index, converted, None if kept is FITS else to_text(kept))

    def additions(self) -> pa.Schema | None:
        """The columns that the unknown fields of good messages ask for."""
        if self._seen is None:
            return None
        return additions(self._decoder._fields, self._seen, self._spec.max_columns)

    def build(self) -> None:
        """Find, by halves, the rows that only Arrow's builders refuse, and bury them."""
        waiting = [(0, len(self.rows))]
        broken: dict[int, str] = {}
        while waiting:
            start, end = waiting.pop()
            try:
                self._decoder._batch(self.nodes[start:end], self.texts[start:end])
            except _BUILD_ERRORS as error:
                if end - start == 1:
                    broken[start] = f"{type(error).__name__}: {error}"
                    continue
                middle = (start + end) // 2
                waiting += [(start, middle), (middle, end)]
        for at, reason in broken.items():
            self._bury(self.rows[at], "build", reason, "BuildFailure")
        whole = [at for at in range(len(self.rows)) if at not in broken]
        self.rows = [self.rows[at] for at in whole]
        self.nodes = [self.nodes[at] for at in whole]
        self.texts = [self.texts[at] for at in whole]
        self.dead.sort(key=lambda record: record.row)

    def _see(self, row: Row) -> None:
        for path, name, node in row.unknown:
            if self._seen is None:
                self._seen = Shape.of(pa.struct(list(self._decoder._fields)), top_level=True)
            at = self._seen.at(path)
            if at is not None:
                at.see_field(name, node, len(path))

    def _keep(self, index: int, node: dict[str, Any] | None, text: str | None) -> None:
        self.rows.append(index)
        self.nodes.append(node)
        self.texts.append(text)

    def _bury(self, index: int, stage: str, reason: str, error_class: str) -> None:
        self.dead.append(
            DeadRecord(index, stage, clipped(reason, _MAX_REASON_CHARACTERS), error_class)
        )


def _refuse(row: Row, kept: Node) -> None:
    """The dead letter of a record that ``reject`` does not take."""
    if row.unknown:
        shown = ", ".join(f"'{dotted((*path, name))}'" for path, name, _ in row.unknown[:3])
        more = f" and {len(row.unknown) - 3} more" if len(row.unknown) > 3 else ""
        raise BadMessage("validate", "UnknownField", f"unknown fields {shown}{more}")
    if kept is not FITS:
        raise BadMessage(
            "validate", "DoesNotFit", f"only a wider type holds {clipped(to_text(kept), 200)}"
        )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
