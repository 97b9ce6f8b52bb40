"""A schema as the kernels' tables, and their slots as Arrow columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylake import kernels

_ELEMENTS_PER_ROW = 4
_NEVER = 1 << 40
"""The size of a name that is longer than any message."""
_RANGES = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}
_KINDS = {
    pa.string(): "STRING",
    pa.binary(): "BINARY",
    pa.bool_(): "BOOLEAN",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
    pa.timestamp("us"): "TIMESTAMP_NTZ",
    **dict.fromkeys(_RANGES, "INTEGER"),
}


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of the schema's tree.

    Attributes:
        type: Its type.
        name: The field's name; empty for elements.
        level: The innermost list or map that it lies in, 0 for none: nodes of one level that are
            not empty lists have as many slots as each other.
        end: The node after its subtree.
        fields: How many fields a struct has.
    """

    type: pa.DataType
    name: str
    level: int
    end: int
    fields: int


class SchemaTables:
    """What the kernels know of a schema, worked out once.

    Args:
        message: The columns, as one struct.
    """

    def __init__(self, message: pa.DataType) -> None:
        found: list[_Node] = []
        _collect(message, "", 0, found)
        self.nodes = found
        self._numbers, self._names = _tables(found)
        self._depth = _depth(message)

    @property
    def width(self) -> int:
        """Slots of a row, a few elements of lists included."""
        return sum(_ELEMENTS_PER_ROW if one.level else 1 for one in self.nodes)

    def fill(self, values: pa.Array, limits: tuple[int, int]) -> Filled:
        """Parse messages.

        Args:
            values: The messages, binary.
            limits: The greatest message in bytes, and the greatest depth.
        """
        tables = kernels.load("json_tables")
        data, offsets, present = _messages(values)
        count = len(values)
        rooms = [count * (_ELEMENTS_PER_ROW if one.level else 1) for one in self.nodes]
        numbers = self._numbers.copy()
        size = len(self.nodes)
        numbers[:, tables.BASE], total = _bases(rooms)
        numbers[:, tables.ROOM] = rooms
        t = tables.Tables(
            data,
            numbers,
            self._names,
            np.zeros(size, np.int64),
            np.zeros(size, np.int64),
            np.zeros(size + 1, np.int64),
            np.zeros(size, np.int64),
            np.empty(total, np.int64),
            np.empty(total, np.uint8),
            np.empty(tables.FRAME * (self._depth + 1), np.int64),
        )
        bounds = np.array([0, count, limits[0], min(limits[1], self._depth), size], np.int64)
        parse = kernels.load("json_rows").parse
        rows, tombstones = np.empty(count, np.int64), np.empty(count, np.uint8)
        while True:
            addresses = tables.Tables(*(array.ctypes.data for array in t))
            bounds[0] = parse(addresses, offsets, present, bounds, rows, tombstones)
            if bounds[0] == count:
                break
            t = self._enlarged(t, tables)
        good = int(t.used[0])
        return Filled(self.nodes, t, tables, rows[:good], tombstones[:good])

    def _enlarged(self, t: Any, tables: ModuleType) -> Any:
        """Four times the room for elements."""
        old = t.nodes
        numbers = old.copy()
        deep = np.array([one.level > 0 for one in self.nodes])
        numbers[deep, tables.ROOM] *= 4
        numbers[:, tables.BASE], total = _bases(numbers[:, tables.ROOM].tolist())
        values, valid = np.empty(total, np.int64), np.empty(total, np.uint8)
        for node, used in enumerate(t.used.tolist()):
            was, now = old[node, tables.BASE], numbers[node, tables.BASE]
            values[now : now + used] = t.values[was : was + used]
            valid[now : now + used] = t.valid[was : was + used]
        return t._replace(nodes=numbers, values=values, valid=valid)


def _written(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]


def written_with_escapes(kind: pa.DataType) -> list[str]:
    """The field names inside a type that JSON writes with an escape: no kernel looks for those."""
    found: list[str] = []
    for at in range(kind.num_fields if pa.types.is_nested(kind) else 0):
        field = kind.field(at)
        if pa.types.is_struct(kind) and _written(field.name) != field.name:
            found.append(field.name)
        found += written_with_escapes(field.type)
    return found


@dataclass(frozen=True, slots=True)
class Filled:
    """Slots after parsing.

    Attributes:
        nodes: The schema's tree.
        t: The tables.
        tables: The module of the tables.
        rows: The rows that were good.
        tombstones: Which of them are null.
    """

    nodes: list[_Node]
    t: Any
    tables: ModuleType
    rows: npt.NDArray[np.int64]
    tombstones: npt.NDArray[np.uint8]

    def columns(self) -> list[pa.Array]:
        """The message's columns."""
        return [self._array(node) for node in self._children(0)]

    def _children(self, node: int) -> list[int]:
        found, child = [], node + 1
        while child < self.nodes[node].end:
            found.append(child)
            child = self.nodes[child].end
        return found

    def _array(self, node: int) -> pa.Array:
        kind = self.nodes[node].type
        count = int(self.t.used[node])
        base = int(self.t.nodes[node, self.tables.BASE])
        slots = self.t.values[base : base + count]
        bitmap = _bitmap(self.t.valid[base : base + count])
        if pa.types.is_struct(kind):
            children = [self._array(child) for child in self._children(node)]
            return pa.Array.from_buffers(kind, count, [bitmap], children=children)
        if pa.types.is_list(kind) or pa.types.is_map(kind):
            offsets = np.zeros(count + 1, np.int32)
            np.cumsum(slots, out=offsets[1:])
            buffers = [bitmap, pa.py_buffer(offsets)]
            children = [self._array(node + 1)]
            return pa.Array.from_buffers(kind, count, buffers, children=children)
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            return self._texts(node, slots, bitmap)
        return pa.Array.from_buffers(kind, count, [bitmap, pa.py_buffer(_fixed(kind, slots))])

    def _texts(self, node: int, slots: npt.NDArray[np.int64], bitmap: Any) -> pa.Array:
        kind = self.nodes[node].type
        compiled = kernels.load("json_columns")
        gather = compiled.gather_texts if pa.types.is_string(kind) else compiled.gather_base64
        offsets = np.empty(len(slots) + 1, np.int32)
        out = np.empty(int(self.t.text_bytes[node]) + 8, np.uint8)
        size = gather(self.t.data, slots, offsets, out)
        buffers = [bitmap, pa.py_buffer(offsets), pa.py_buffer(out[:size])]
        return pa.Array.from_buffers(kind, len(slots), buffers)


def _fixed(kind: pa.DataType, slots: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Slots in a column's own width."""
    if pa.types.is_boolean(kind):
        return np.packbits(slots.astype(np.bool_), bitorder="little")
    if pa.types.is_float32(kind):
        return slots.view(np.float64).astype(np.float32)
    if pa.types.is_decimal(kind):
        wide = np.empty((len(slots), 2), np.int64)
        wide[:, 0] = slots
        wide[:, 1] = slots >> 63
        return wide
    width = kind.bit_width
    return slots if width == 64 else slots.astype(np.dtype(f"int{width}"))


def _bitmap(valid: npt.NDArray[np.uint8]) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _messages(
    values: pa.Array,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The bytes, the offsets, and which messages are there (empty when all are)."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32, len(values) + 1, 4 * values.offset)
    content = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    content.flags.writeable = False
    if not values.null_count:
        return content, ends, np.empty(0, np.uint8)
    present = values.is_valid().to_numpy(zero_copy_only=False)
    return content, ends, present.view(np.uint8)


def _bases(rooms: list[int]) -> tuple[list[int], int]:
    """Where each node's slots begin, and how many there are in all."""
    ends = np.cumsum([0, *rooms]).tolist()
    return ends[:-1], ends[-1]


def _collect(kind: pa.DataType, name: str, level: int, found: list[_Node]) -> None:
    at = len(found)
    found.append(_Node(kind, name, level, at, 0))
    fields = 0
    if pa.types.is_struct(kind):
        fields = kind.num_fields
        for field in kind:
            _collect(field.type, field.name, level, found)
    elif pa.types.is_list(kind):
        _collect(kind.value_type, "", at, found)
    elif pa.types.is_map(kind):
        inner = len(found)
        found.append(_Node(kind, "", at, inner, 0))
        _collect(kind.key_type, "", at, found)
        _collect(kind.item_type, "", at, found)
        entry = pa.struct([kind.key_field, kind.item_field])
        found[inner] = _Node(entry, "", at, len(found), 2)
    found[at] = _Node(kind, name, level, len(found), fields)


def _depth(kind: pa.DataType) -> int:
    if not pa.types.is_nested(kind):
        return 0
    return 1 + max((_depth(kind.field(i).type) for i in range(kind.num_fields)), default=0)


def _tables(found: list[_Node]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    tables = kernels.load("json_tables")
    numbers = np.zeros((len(found), tables.COLUMNS), np.int64)
    names = bytearray()
    for row, one in zip(numbers, found, strict=True):
        name = one.name.encode()
        row[tables.KIND] = getattr(tables, _kind(one.type))
        row[tables.END], row[tables.FIELDS] = one.end, one.fields
        row[tables.NAME_AT] = len(names)
        # A name that JSON writes with an escape never stands in a message as it is.
        row[tables.NAME_SIZE] = len(name) if _written(one.name) == one.name else _NEVER
        names += name
        if one.type in _RANGES:
            bits = _RANGES[one.type]
            row[tables.LOW], row[tables.HIGH] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        elif pa.types.is_decimal(one.type):
            row[tables.LOW], row[tables.HIGH] = one.type.precision, one.type.scale
    return numbers, np.frombuffer(bytes(names) + bytes(8), np.uint8)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "STRUCT"
    if pa.types.is_list(kind):
        return "LIST"
    if pa.types.is_map(kind):
        return "MAP"
    if pa.types.is_decimal(kind):
        return "DECIMAL"
    return _KINDS[kind]
