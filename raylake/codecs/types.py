"""Column types as text, in the manner of Spark and Delta: ``struct<a:int,b:array<string>>``.

Names: ``string boolean byte|tinyint short|smallint int|integer long|bigint float|real double
decimal(p,s) date timestamp timestamp_ntz binary array<T> map<string,T> struct<name:T,…>``.
Field names that are not plain identifiers go in backticks (a backtick inside is doubled).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from raylake.codecs import names
from raylake.errors import ConfigError

MAX_TYPE_DEPTH = 64

_SCALARS: dict[str, pa.DataType] = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "short": pa.int16(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "binary": pa.binary(),
}
_ALIASES = {
    "tinyint": "byte",
    "smallint": "short",
    "integer": "int",
    "bigint": "long",
    "real": "float",
    "bool": "boolean",
}
_TEXTS = {dtype: name for name, dtype in _SCALARS.items()}
_TOKEN = re.compile(r"\s*(?:(`(?:[^`]|``)+`)|([\w$.@-]+)|([<>(),:]))")
_PLAIN = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


def parse_type(text: str) -> pa.DataType:
    """The Arrow type that a type text names.

    Raises:
        ConfigError: The text is no type; the message says where it stops making sense.
    """
    parser = _Parser(text)
    dtype = parser.type(0)
    parser.end()
    return dtype


def parse_schema(columns: Mapping[str, str]) -> pa.Schema:
    """A schema from column names and type texts, all columns nullable.

    Raises:
        ConfigError: All columns with a name that cannot be a column, or with no type of ours.
    """
    problems: list[str] = []
    fields: list[pa.Field] = []
    seen: dict[str, str] = {}
    for name, text in columns.items():
        refusal = names.refusal(name, top_level=True, taken=seen)
        if refusal:
            problems.append(f"{name!r}: {refusal}")
        seen[name.lower()] = name
        try:
            fields.append(pa.field(name, parse_type(text)))
        except ConfigError as error:
            problems.append(f"{name!r}: {error.message}")
    if problems:
        raise ConfigError(
            "the schema cannot be used: " + "; ".join(problems),
            hint="names need letters, digits or _ (not first); types look like long, "
            "decimal(18,2), timestamp, array<string>, struct<a:int,b:string>",
            problems=problems,
        )
    return pa.schema(fields)


def type_text(dtype: pa.DataType) -> str:
    """The text of a type; ``parse_type`` reads it back.

    Raises:
        ConfigError: Delta has no such type.
    """
    dtype = normalise_type(dtype)
    if pa.types.is_struct(dtype):
        inner = ",".join(f"{_quoted(f.name)}:{type_text(f.type)}" for f in dtype)
        return f"struct<{inner}>"
    if pa.types.is_list(dtype):
        return f"array<{type_text(dtype.value_type)}>"
    if pa.types.is_map(dtype):
        return f"map<{type_text(dtype.key_type)},{type_text(dtype.item_type)}>"
    if pa.types.is_decimal(dtype):
        return f"decimal({dtype.precision},{dtype.scale})"
    return _TEXTS[dtype]


def schema_text(schema: pa.Schema) -> dict[str, str]:
    """Column names and type texts, the opposite of ``parse_schema``."""
    return {field.name: type_text(field.type) for field in schema}


def normalise_type(dtype: pa.DataType) -> pa.DataType:
    """The one Arrow type that we use for a Delta type (views and large types become plain).

    Raises:
        ConfigError: Delta has no such type.
    """
    t = pa.types
    if t.is_struct(dtype):
        return pa.struct([pa.field(f.name, normalise_type(f.type)) for f in dtype])
    if t.is_list(dtype) or t.is_large_list(dtype) or t.is_list_view(dtype):
        return pa.list_(normalise_type(dtype.value_type))
    if t.is_map(dtype):
        return pa.map_(normalise_type(dtype.key_type), normalise_type(dtype.item_type))
    if t.is_decimal(dtype) and dtype.precision <= 38 and 0 <= dtype.scale <= dtype.precision:
        return pa.decimal128(dtype.precision, dtype.scale)
    if t.is_large_string(dtype) or t.is_string_view(dtype):
        return pa.string()
    if t.is_large_binary(dtype) or t.is_binary_view(dtype):
        return pa.binary()
    if t.is_timestamp(dtype):
        return pa.timestamp("us", tz="UTC" if dtype.tz else None)
    if dtype in _TEXTS:
        return dtype
    raise ConfigError(f"a Delta table has no type for Arrow's {dtype}")


def merge_schema(schema: pa.Schema, additions: pa.Schema) -> pa.Schema:
    """A schema with additions: new columns at the end, new struct fields at the struct's end.

    Types that exist stay as they are, so merging twice changes nothing.
    """
    merged = _merge_fields(list(schema), list(additions))
    return pa.schema(merged, metadata=schema.metadata)


def _merge_fields(old: list[pa.Field], new: list[pa.Field]) -> list[pa.Field]:
    incoming = {field.name: field for field in new}
    known = {field.name for field in old}
    merged = [
        field.with_type(_merge_type(field.type, incoming[field.name].type))
        if field.name in incoming
        else field
        for field in old
    ]
    return merged + [field for field in new if field.name not in known]


def _merge_type(old: pa.DataType, new: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return pa.struct(_merge_fields(list(old), list(new)))
    if pa.types.is_list(old) and pa.types.is_list(new):
        value = old.value_field
        return pa.list_(value.with_type(_merge_type(value.type, new.value_type)))
    if pa.types.is_map(old) and pa.types.is_map(new):
        item = old.item_field
        return pa.map_(old.key_field, item.with_type(_merge_type(item.type, new.item_type)))
    return old


def _quoted(name: str) -> str:
    return name if _PLAIN.match(name) else "`" + name.replace("`", "``") + "`"


class _Parser:
    """Recursive descent over a type text, bounded in depth."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def type(self, depth: int) -> pa.DataType:
        if depth > MAX_TYPE_DEPTH:
            raise self._error(f"types nest at most {MAX_TYPE_DEPTH} deep")
        word = self._word("a type").lower()
        if word == "array":
            self._expect("<")
            element = self.type(depth + 1)
            self._expect(">")
            return pa.list_(element)
        if word == "map":
            return self._map(depth)
        if word == "struct":
            return self._struct(depth)
        if word in ("decimal", "numeric", "dec"):
            return self._decimal()
        word = _ALIASES.get(word, word)
        if word not in _SCALARS:
            raise self._error(f"{word!r} is no type; known: {', '.join(_SCALARS)}")
        return _SCALARS[word]

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise self._error("text after the type")

    def _map(self, depth: int) -> pa.DataType:
        self._expect("<")
        key = self.type(depth + 1)
        self._expect(",")
        item = self.type(depth + 1)
        self._expect(">")
        return pa.map_(key, item)

    def _struct(self, depth: int) -> pa.DataType:
        self._expect("<")
        fields: list[pa.Field] = []
        seen: dict[str, str] = {}
        while True:
            name = self._word("a field name")
            refusal = names.refusal(name, top_level=False, taken=seen)
            if refusal:
                raise self._error(f"field {name!r} {refusal}")
            seen[name.lower()] = name
            self._expect(":")
            fields.append(pa.field(name, self.type(depth + 1)))
            if self._next() == ">":
                return pa.struct(fields)
            self._at -= 1
            self._expect(",")

    def _decimal(self) -> pa.DataType:
        before = self._at
        if self._next() != "(":
            self._at = before
            return pa.decimal128(10, 0)
        precision, scale = self._number(), 0
        if self._next() == ",":
            scale = self._number()
            self._expect(")")
        elif self._text[self._at - 1 : self._at] != ")":
            raise self._error("expected ')'")
        if not (1 <= precision <= 38 and 0 <= scale <= precision):
            raise self._error("decimal(p,s) needs 1 <= p <= 38 and 0 <= s <= p")
        return pa.decimal128(precision, scale)

    def _number(self) -> int:
        word = self._word("a number")
        if not (word.isascii() and word.isdigit() and len(word) < 4):
            raise self._error(f"{word!r} is no number of digits")
        return int(word)

    def _next(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group().strip()

    def _expect(self, sign: str) -> None:
        before = self._at
        if self._next() != sign:
            self._at = before
            raise self._error(f"expected {sign!r}")

    def _word(self, what: str) -> str:
        before = self._at
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.group(3):
            self._at = before
            raise self._error(f"expected {what}")
        self._at = match.end()
        if match.group(1):
            return match.group(1)[1:-1].replace("``", "`")
        return match.group(2)

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(
            f"type {self._text[:200]!r}, character {self._at + 1}: {problem}",
            hint="types look like long, decimal(18,2), array<string>, struct<a:int,b:string>",
        )
