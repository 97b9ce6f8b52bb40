"""The tables that the kernels of JSON work on: a schema as numbers, and room for values.

A schema is a tree of nodes in depth-first order, node 0 the message itself. A node has one slot for
each time its parent has a value (null included): fields of a struct as many as the struct, elements
of a list one for each element. A slot is 64 bits and a validity byte:

=================  =================================================================================
kind               slot
=================  =================================================================================
STRING, BINARY     where the text begins in the data (32 bits), its bytes (31), escapes in it (1)
BOOLEAN … LONG     the integer
FLOAT, DOUBLE      the bits of the double
DATE               days since 1970
TIMESTAMP(_NTZ)    microseconds since 1970
DECIMAL            the unscaled integer
LIST, MAP          how many elements
STRUCT             nothing
=================  =================================================================================
"""

from __future__ import annotations

from typing import NamedTuple

from numba import types

from raylake.kernels.compiling import inner
from raylake.kernels.memory import add, get, put, store8

STRUCT, LIST, MAP = 0, 1, 2
STRING, BINARY, BOOLEAN, INTEGER, FLOAT, DOUBLE = 3, 4, 5, 6, 7, 8
DATE, TIMESTAMP, TIMESTAMP_NTZ, DECIMAL = 9, 10, 11, 12
"""Kinds of nodes; those up to MAP have nodes below them."""

KIND, END, NAME_AT, NAME_SIZE, LOW, HIGH, BASE, ROOM, FIELDS, COLUMNS = range(10)
"""Columns of ``nodes``: the kind; the node after its subtree; its name's place among the names and
size; least and greatest integer (of a decimal: precision and scale); its first slot and how many
there are; the number of its fields."""

NODE, STAMP, EXPECTED, COUNT, FRAME = range(5)
"""Numbers of a frame: its node; which object this is; the field that is expected next; how many
members or elements there were (``FRESH`` before the first one)."""
FRESH = -1


class Tables(NamedTuple):
    """What the kernels read and fill: addresses of arrays that the caller holds.

    Attributes:
        data: The messages' bytes.
        nodes: A row a node, a column for each of ``KIND`` … ``FIELDS``.
        names: The names' bytes, and eight more.
        used: Slots in use, by node.
        kept: ``used`` when the last good row was complete.
        seen: The object in which a field was met last, by node; behind them, how many objects.
        text_bytes: At most the bytes of text in use, by node.
        values: The slots.
        valid: Whether a slot has a value.
        frames: The objects and arrays that are open: ``FRAME`` numbers each.
    """

    data: int
    nodes: int
    names: int
    used: int
    kept: int
    seen: int
    text_bytes: int
    values: int
    valid: int
    frames: int


TABLES = types.NamedUniTuple(types.int64, len(Tables._fields), Tables)


@inner
def fact(t: Tables, node: int, column: int) -> int:
    """A number of the table of nodes."""
    return get(t.nodes, node * COLUMNS + column)


@inner
def append(t: Tables, node: int, value: int) -> None:
    """Append a value."""
    slot = fact(t, node, BASE) + get(t.used, node)
    put(t.values, slot, value)
    store8(t.valid + slot, 1)
    add(t.used, node, 1)


@inner
def append_text(t: Tables, node: int, start: int, size: int, escaped: int) -> None:
    """Append a text by its place in the data."""
    append(t, node, start << 32 | size << 1 | escaped)
    add(t.text_bytes, node, size)


@inner
def append_null(t: Tables, node: int) -> None:
    """Append a null, to the fields of a struct too; a list has no elements then."""
    stop = fact(t, node, END)
    while node < stop:
        slot = fact(t, node, BASE) + get(t.used, node)
        put(t.values, slot, 0)
        store8(t.valid + slot, 0)
        add(t.used, node, 1)
        kind = fact(t, node, KIND)
        skipped = kind == LIST or kind == MAP
        node = fact(t, node, END) if skipped else node + 1
