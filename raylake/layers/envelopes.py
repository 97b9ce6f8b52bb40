"""Records out of their envelopes: rows, and deletes of keys.

Of Debezium's change events (JSON; ``before``, ``after``, ``op``, ``ts_ms``, ``source`` at the top
or in ``payload``), ``c``, ``r`` and ``u`` are the row in ``after``, ``d`` deletes the one in
``before``; ``t`` names no key and is rejected, as is any other. The events' order is
``source.lsn``, or ``source.file``, ``source.pos`` and ``source.row``, or ``source.ts_ms``, or
``ts_ms``: the first that is there. A record of Kafka without a value deletes the key that its
``_key`` is; Debezium's say nothing that its ``d`` has not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.codecs.exact_json import BadMessage, Number, parse
from raylake.delta.verify_offsets import Mask
from raylake.layers.bronze import METADATA, RESERVED
from raylake.layers.derived import SOURCE_VERSION, TIES, Rejected
from raylake.layers.errors import TransformRefused
from raylake.layers.row_spec import RowWiseSpec

TOMBSTONE: Final = "_tombstone"
KEY: Final = "_key"
_BEFORE, _AFTER, _OP, _SOURCE, _TIME = "before", "after", "op", "source", "ts_ms"
_PARTS: Final = (_BEFORE, _AFTER, _OP, _SOURCE, _TIME)
_ORDERS: Final = (("lsn",), ("file", "pos", "row"), ("ts_ms",))
_ROWS: Final = ("c", "r", "u")
_KEY_DEPTH: Final = 8
_KEY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a source, out of their envelopes.

    Attributes:
        rows: Rows: payload, metadata, and what orders them.
        origin: For each row its place among the records.
        deletes: Deletes, in the same columns as far as they are known.
        delete_origin: Likewise.
        rejected: Records of which nothing can be made.
    """

    rows: pa.Table
    origin: pa.Array
    deletes: pa.Table
    delete_origin: pa.Array
    rejected: tuple[Rejected, ...] = ()


def payload_of(name: str) -> bool:
    """Whether a column of a source is of its payload: neither Kafka's nor ours."""
    derived = any(name == f"{one}_{part}" for one in METADATA.names for part in ("date", "hour"))
    return name not in RESERVED and name != SOURCE_VERSION and not derived


def flat_schema(spec: RowWiseSpec, source: pa.Schema) -> pa.Schema:
    """The columns of rows out of their envelopes.

    Raises:
        TransformRefused: The source has no such envelope.
    """
    if spec.envelope == "none":
        return pa.schema([one for one in source if one.name != SOURCE_VERSION])
    parts = _parts(spec, source)
    fields: dict[str, pa.Field] = {}
    for side in (_AFTER, _BEFORE):
        kind = parts.get(side, pa.null())
        for one in kind if pa.types.is_struct(kind) else ():
            fields.setdefault(one.name, one.with_nullable(True))
    for name in envelope_order(spec, source):
        fields[name] = pa.field(name, _order_type(parts, name))
    fields |= {one.name: one for one in source if one.name in METADATA.names}
    return pa.schema(list(fields.values()))


def envelope_columns(spec: RowWiseSpec, source: pa.Schema) -> list[str]:
    """The columns of a source that its envelope lies in."""
    if spec.envelope == "none":
        return []
    inner = _inner(source)
    return [inner] if inner else [one for one in _PARTS if one in source.names]


def envelope_order(spec: RowWiseSpec, source: pa.Schema) -> tuple[str, ...]:
    """The columns by which an envelope orders rows, in flat rows; empty where it does not."""
    if spec.envelope == "none":
        return ()
    parts = _parts(spec, source)
    inside = parts.get(_SOURCE, pa.null())
    known = {one.name for one in inside} if pa.types.is_struct(inside) else set()
    for names in _ORDERS:
        if names[-1] in known or (len(names) > 1 and names[1] in known):
            return tuple(f"_source_{name}" for name in names if name in known)
    return ("_ts_ms",) if _TIME in parts else ()


def records(spec: RowWiseSpec, came: pa.Table) -> Records:
    """Rows and deletes of a source's records.

    Args:
        spec: The table.
        came: Records, as :class:`~raylake.layers.derived.SourceRows` has them.

    Raises:
        TransformRefused: The source has no such envelope.
    """
    dead = _flags(came, TOMBSTONE)
    if spec.envelope == "debezium":
        return _debezium(spec, came, dead)
    schema = flat_schema(spec, came.schema)
    flat = came.select(schema.names)
    if not dead.any():
        places = pa.array(np.arange(came.num_rows))
        return Records(flat, places, flat.slice(0, 0), places.slice(0, 0))
    live, gone = np.flatnonzero(~dead), np.flatnonzero(dead)
    if not spec.tombstones_delete:
        gone = gone[:0]
    return Records(
        flat.take(pa.array(live)), pa.array(live), flat.take(pa.array(gone)), pa.array(gone)
    )


def keys_of_tombstones(
    tombstones: pa.Table, names: Sequence[str]
) -> tuple[list[pa.Array], list[str | None]]:
    """The texts of the keys that tombstones delete.

    ``_key`` is a JSON object with the keys' names (or one with ``payload``), or, for a single key,
    a JSON string or any other text.

    Args:
        tombstones: With ``_key``.
        names: The keys, as the payload names them.

    Returns:
        A column of texts for each key, and for each row why it cannot be read; None: it can.
    """
    found: list[list[str | None]] = [[] for _ in names]
    problems: list[str | None] = []
    column = tombstones.column(KEY).to_pylist() if KEY in tombstones.column_names else None
    for raw in column if column is not None else [None] * tombstones.num_rows:
        values, problem = _key_values(raw, names)
        problems.append(problem)
        for texts, value in zip(found, values, strict=True):
            texts.append(value)
    return [pa.array(texts, pa.string()) for texts in found], problems


def _key_values(raw: bytes | None, names: Sequence[str]) -> tuple[Sequence[str | None], str | None]:
    nothing: list[str | None] = [None] * len(names)
    if raw is None:
        return nothing, "the record has neither a value nor a key"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return nothing, "the record's key is not UTF-8"
    if not text.startswith("{"):
        if len(names) > 1:
            return nothing, f"the record's key is no JSON object with {', '.join(names)}"
        return [_unquoted(text)], None
    try:
        node = parse(raw, max_depth=_KEY_DEPTH, max_bytes=_KEY_BYTES)
    except BadMessage as error:
        return nothing, f"the record's key is no JSON: {error}"
    inner = node.get("payload")
    if isinstance(inner, dict) and any(name not in node for name in names):
        node = inner
    found = [_scalar_text(node.get(name)) for name in names]
    lost = [name for name, value in zip(names, found, strict=True) if value is None]
    return (nothing, f"the record's key has no {', '.join(lost)}") if lost else (found, None)


def _unquoted(text: str) -> str:
    """A text that is written as a JSON string."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        try:
            found = parse(b'{"key":' + text.encode() + b"}", max_depth=2, max_bytes=_KEY_BYTES)
        except BadMessage:
            return text
        return str(found["key"])
    return text


def _scalar_text(node: Any) -> str | None:
    if isinstance(node, bool):
        return str(node).lower()
    if isinstance(node, Number):
        return str.__str__(node)
    return node if isinstance(node, str) else None


def _debezium(spec: RowWiseSpec, came: pa.Table, dead: Mask) -> Records:
    schema = flat_schema(spec, came.schema)
    columns = _opened(came)
    op = columns.get(_OP, pa.nulls(came.num_rows, pa.string()))
    # A row that is not there says nothing, whatever the operation is called.
    upserts, deletes = (
        _is_in(op, kinds) & ~dead & _there(columns.get(side), came.num_rows)
        for kinds, side in ((_ROWS, _AFTER), (("d",), _BEFORE))
    )
    lost = ~dead & ~upserts & ~deletes
    order = envelope_order(spec, came.schema)
    sides = [
        _flat(came, columns, (side, order), schema, mask)
        for side, mask in ((_AFTER, upserts), (_BEFORE, deletes))
    ]
    rejected: tuple[Rejected, ...] = ()
    if lost.any():
        rejected = (
            Rejected(
                came.filter(pa.array(lost)),
                "envelope",
                _OP,
                _strings(op).filter(pa.array(lost)),
                "it is no c, r or u with a row in `after`, and no d with one in `before`",
            ),
        )
    return Records(
        sides[0],
        pa.array(np.flatnonzero(upserts)),
        sides[1],
        pa.array(np.flatnonzero(deletes)),
        rejected,
    )


def _flat(
    came: pa.Table,
    columns: Mapping[str, pa.Array],
    what: tuple[str, tuple[str, ...]],
    schema: pa.Schema,
    chosen: Mask,
) -> pa.Table:
    """Rows of one side of the envelope in the columns of flat rows."""
    side, order = what
    row, inside = columns.get(side), columns.get(_SOURCE)
    mask = pa.array(chosen)
    found = []
    for field in schema:
        if field.name in order:
            name = field.name.removeprefix("_source_")
            column = columns.get(_TIME) if name == field.name else _field(inside, name)
        elif field.name in METADATA.names:
            column = _one(came.column(field.name))
        else:
            column = _field(row, field.name)
        if column is None:
            found.append(pa.nulls(int(chosen.sum()), field.type))
        else:
            found.append(column.filter(mask).cast(field.type))
    return pa.table(found, schema=schema)


def _opened(came: pa.Table) -> dict[str, pa.Array]:
    inner = _inner(came.schema)
    if not inner:
        return {one: _one(came.column(one)) for one in _PARTS if one in came.column_names}
    whole = _one(came.column(inner))
    names = [one.name for one in whole.type]
    return {one: pc.struct_field(whole, one) for one in _PARTS if one in names}


def _parts(spec: RowWiseSpec, source: pa.Schema) -> dict[str, pa.DataType]:
    inner = _inner(source)
    fields = list(source.field(inner).type) if inner else list(source)
    found = {one.name: one.type for one in fields if one.name in _PARTS}
    if _OP not in found or not (_AFTER in found or _BEFORE in found):
        raise TransformRefused(
            f"{spec.name}: envelope: debezium: the source has no columns op, before and after",
            hint="Debezium's JSON has them at the top, or in `payload`; its columns are "
            f"{', '.join(source.names)}",
        )
    return found


def _inner(source: pa.Schema) -> str:
    """The column that the envelope lies in; empty where its parts are columns."""
    if _OP in source.names or "payload" not in source.names:
        return ""
    kind = source.field("payload").type
    return "payload" if pa.types.is_struct(kind) and kind.get_field_index(_OP) >= 0 else ""


def _order_type(parts: Mapping[str, pa.DataType], name: str) -> pa.DataType:
    inner = name.removeprefix("_source_")
    return parts[_TIME] if inner == name else parts[_SOURCE].field(inner).type


def _field(column: pa.Array | None, name: str) -> pa.Array | None:
    if column is None or not pa.types.is_struct(column.type):
        return None
    return pc.struct_field(column, name) if column.type.get_field_index(name) >= 0 else None


def _there(column: pa.Array | None, rows: int) -> Mask:
    if column is None:
        return np.zeros(rows, dtype=bool)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False))


def _is_in(column: pa.Array, values: Sequence[str]) -> Mask:
    found = pc.is_in(_strings(column), value_set=pa.array(values))
    return np.array(found.to_numpy(zero_copy_only=False), dtype=bool)


def _strings(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _flags(rows: pa.Table, name: str) -> Mask:
    if name not in rows.column_names:
        return np.zeros(rows.num_rows, dtype=bool)
    return np.array(pc.fill_null(rows.column(name), False).to_numpy(), dtype=bool)


def _one(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def tie_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns of :data:`~raylake.layers.derived.TIES` that are there."""
    return tuple(name for name in TIES if name in schema.names)
