"""What types unknown fields have: wide, merged over the messages of a sample or a batch.

============================  ===================================================================
seen                          type
============================  ===================================================================
integers within 64 bits       long
other numbers                 double; string when one is beyond a double or is an integer beyond
                              64 bits (its text is exact)
true, false                   boolean
strings                       string, whatever they look like
two kinds of scalar           long with double is double, anything else string
objects                       struct of the union of their fields
arrays                        array of the merged element
a scalar and an object, …     the kind that came first; the others will be dead letters
only null, ``[]``, ``{}``     none yet: not a column
============================  ===================================================================
"""

from __future__ import annotations

import math

import pyarrow as pa

from raylake.codecs import names
from raylake.codecs.exact_json import Node, Number
from raylake.codecs.scalars import ELEMENT, LONG_MAX, LONG_MIN, VALUE, Path

MAX_SHAPE_DEPTH = 16

_SCALARS = {
    "boolean": pa.bool_(),
    "long": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
}


class Shape:
    """The type of one place in the messages, as far as it is known.

    Attributes:
        kind: ``""`` (nothing seen), a scalar of ours, ``struct``, ``array``, ``map`` or ``given``.
        given: The type that the table has here; it never changes, only structs inside it grow.
        fields: Shapes of the fields, by name, in order of first appearance.
        element: The shape of array elements or map values.
    """

    __slots__ = ("_taken", "element", "fields", "given", "kind", "top_level")

    def __init__(self, *, top_level: bool = False) -> None:
        self.kind = ""
        self.given: pa.DataType | None = None
        self.fields: dict[str, Shape] = {}
        self.element: Shape | None = None
        self.top_level = top_level
        self._taken: dict[str, str] = {}

    @classmethod
    def of(cls, dtype: pa.DataType, *, top_level: bool = False) -> Shape:
        """The shape of a type that exists."""
        shape = cls(top_level=top_level)
        shape.given = dtype
        if pa.types.is_struct(dtype):
            shape.kind = "struct"
            for field in dtype:
                shape.fields[field.name] = cls.of(field.type)
                shape._taken[field.name.lower()] = field.name
        elif pa.types.is_list(dtype):
            shape.kind, shape.element = "array", cls.of(dtype.value_type)
        elif pa.types.is_map(dtype):
            shape.kind, shape.element = "map", cls.of(dtype.item_type)
        else:
            shape.kind = "given"
        return shape

    def at(self, path: Path) -> Shape | None:
        """The shape at a path of field names, ``ELEMENT`` and ``VALUE``."""
        shape: Shape | None = self
        for step in path:
            if shape is None:
                return None
            shape = (
                shape.element
                if step in (ELEMENT, VALUE) and shape.element
                else (shape.fields.get(step))
            )
        return shape

    def see_field(self, name: str, node: Node, depth: int = 0) -> None:
        """Take a field's value into account; a name that can be no column is passed over."""
        shape = self.fields.get(name)
        if shape is None:
            if names.refusal(name, top_level=self.top_level, taken=self._taken):
                return
            shape = self.fields[name] = Shape()
            self._taken[name.lower()] = name
        shape.see(node, depth + 1)

    def see(self, node: Node, depth: int = 0) -> None:
        """Take a value into account; deeper than ``MAX_SHAPE_DEPTH`` nothing is."""
        if node is None or self.kind == "given" or depth > MAX_SHAPE_DEPTH:
            return
        if type(node) is dict:
            self._see_object(node, depth)
        elif type(node) is list:
            self._see_array(node, depth)
        elif self.kind not in ("struct", "array", "map"):
            self.kind = _wider(self.kind, _scalar_kind(node))

    def _see_object(self, node: dict[str, Node], depth: int) -> None:
        if self.kind in ("", "struct"):
            self.kind = "struct"
            for name, value in node.items():
                self.see_field(name, value, depth)
        elif self.kind == "map" and self.element is not None:
            for value in node.values():
                self.element.see(value, depth + 1)

    def _see_array(self, node: list[Node], depth: int) -> None:
        if self.kind in ("", "array"):
            self.kind = "array"
            self.element = self.element or Shape()
            for item in node:
                self.element.see(item, depth + 1)

    def to_type(self) -> pa.DataType | None:
        """The Arrow type, None while nothing of it is known."""
        if self.kind == "struct":
            fields = [
                pa.field(name, dtype)
                for name, shape in self.fields.items()
                if (dtype := shape.to_type()) is not None
            ]
            return pa.struct(fields) if fields else self.given
        if self.kind in ("array", "map"):
            element = self.element.to_type() if self.element else None
            if element is None:
                return self.given
            if self.kind == "array":
                return pa.list_(element)
            assert self.given is not None  # noqa: S101 - maps are never inferred
            return pa.map_(self.given.key_type, element)
        return self.given if self.kind == "given" else _SCALARS.get(self.kind)


def weight(dtype: pa.DataType) -> int:
    """The fields that a type counts for: itself and every field of the structs in it."""
    if pa.types.is_struct(dtype):
        return 1 + sum(weight(field.type) for field in dtype)
    if pa.types.is_list(dtype):
        return weight(dtype.value_type)
    return weight(dtype.item_type) if pa.types.is_map(dtype) else 1


def additions(base: pa.Schema, seen: Shape, max_columns: int) -> pa.Schema | None:
    """The columns that are new or grown, in order of first appearance, while there is room.

    A new column or struct field that would pass ``max_columns`` is left out whole.
    """
    room = max_columns - sum(weight(field.type) for field in base)
    grown: list[pa.Field] = []
    for name, shape in seen.fields.items():
        old = base.field(name).type if name in base.names else None
        dtype, room = _grow(shape, old, room)
        if dtype is not None and dtype != old:
            grown.append(pa.field(name, dtype))
    return pa.schema(grown) if grown else None


def _grow(shape: Shape, old: pa.DataType | None, room: int) -> tuple[pa.DataType | None, int]:
    """The type of a shape with what there is room for, and the room that is left."""
    if old is None:
        dtype = shape.to_type()
        if dtype is None or weight(dtype) > room:
            return None, room
        return dtype, room - weight(dtype)
    if pa.types.is_struct(old):
        fields: list[pa.Field] = []
        for name, inner in shape.fields.items():
            at = old.get_field_index(name)
            dtype, room = _grow(inner, old.field(at).type if at >= 0 else None, room)
            if dtype is not None:
                fields.append(pa.field(name, dtype))
        return pa.struct(fields), room
    if shape.element is not None and pa.types.is_list(old):
        dtype, room = _grow(shape.element, old.value_type, room)
        return pa.list_(dtype), room
    if shape.element is not None and pa.types.is_map(old):
        dtype, room = _grow(shape.element, old.item_type, room)
        return pa.map_(old.key_type, dtype), room
    return old, room


def _scalar_kind(node: Node) -> str:
    if type(node) is bool:
        return "boolean"
    if type(node) is not Number:
        return "string"
    if node.lstrip("-").isdigit():
        if len(node) > 20:
            return "string"
        return "long" if LONG_MIN <= int(node) <= LONG_MAX else "string"
    return "double" if math.isfinite(float(node)) else "string"


def _wider(one: str, other: str) -> str:
    if one in ("", other):
        return other
    return "double" if {one, other} == {"long", "double"} else "string"
