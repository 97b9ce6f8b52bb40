"""JSON objects and arrays into struct, array and map columns, and whole messages into rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from raylake.codecs.exact_json import Node
from raylake.codecs.scalars import (
    ELEMENT,
    FITS,
    VALUE,
    Converted,
    Converter,
    Path,
    Row,
    mismatch,
    scalar,
)
from raylake.errors import ConfigError


def converter(dtype: pa.DataType) -> Converter:
    """The converter of any type.

    Raises:
        ConfigError: A map whose keys are not strings, which JSON does not have.
    """
    if pa.types.is_struct(dtype):
        return struct_converter(list(dtype))
    if pa.types.is_list(dtype):
        return _array(converter(dtype.value_type))
    if pa.types.is_map(dtype):
        if not pa.types.is_string(dtype.key_type):
            raise ConfigError(
                f"a map with {dtype.key_type} keys cannot be read from JSON",
                hint="JSON has string keys only: use map<string,…>",
            )
        return _map(converter(dtype.item_type))
    return scalar(dtype)


def struct_converter(fields: Iterable[pa.Field]) -> Converter:
    """The converter of an object into a dict of the fields that it has.

    What does not fit, and every unknown field, is kept as an object of those fields.
    """
    converters = {field.name: converter(field.type) for field in fields}

    def convert(node: Node, path: Path, row: Row) -> Converted:
        if type(node) is not dict:
            raise mismatch(path, "object", node)
        out: dict[str, Any] = {}
        kept: dict[str, Node] = {}
        for name, value in node.items():
            into = converters.get(name)
            if into is None:
                row.unknown.append((path, name, value))
                kept[name] = value
            elif value is not None:
                out[name], left = into(value, (*path, name), row)
                if left is not FITS:
                    kept[name] = left
        return out, kept or FITS

    return convert


def _array(into: Converter) -> Converter:
    def convert(node: Node, path: Path, row: Row) -> Converted:
        if type(node) is not list:
            raise mismatch(path, "array", node)
        inner = (*path, ELEMENT)
        out: list[Any] = []
        kept: Any = FITS
        for item in node:
            if item is None:
                out.append(None)
                continue
            value, left = into(item, inner, row)
            out.append(value)
            if left is not FITS:
                kept = node
        return out, kept

    return convert


def _map(into: Converter) -> Converter:
    def convert(node: Node, path: Path, row: Row) -> Converted:
        if type(node) is not dict:
            raise mismatch(path, "object (a map)", node)
        inner = (*path, VALUE)
        out: list[tuple[str, Any]] = []
        kept: dict[str, Node] = {}
        for name, item in node.items():
            if item is None:
                out.append((name, None))
                continue
            value, left = into(item, inner, row)
            out.append((name, value))
            if left is not FITS:
                kept[name] = left
        return out, kept or FITS

    return convert
