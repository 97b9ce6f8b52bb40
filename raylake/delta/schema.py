"""Table schemas: fingerprints, differences, and what an addition would change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from deltalake import Schema

from raylake.errors import SchemaConflict


def delta_schema(schema: pa.Schema) -> Schema:
    """The Delta schema of an Arrow schema.

    Raises:
        SchemaConflict: A type has no counterpart in Delta.
    """
    try:
        return Schema.from_arrow(schema)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise SchemaConflict(f"the schema has a type that Delta lacks: {error}") from error


def arrow_schema(schema: Schema) -> pa.Schema:
    """The Arrow schema of a Delta schema, as every file of the table is written."""
    return pa.schema(schema.to_arrow())


def fingerprint(schema: pa.Schema) -> str:
    """A short digest of names, types, order and nullability, equal in every process.

    Arrow types that Delta does not tell apart (``string`` and ``large_string``) are equal.
    """
    fields = json.loads(delta_schema(schema).to_json())["fields"]
    text = json.dumps([_plain(f) for f in fields], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _plain(v) for k, v in node.items() if k != "metadata"}
    if isinstance(node, list):
        return [_plain(v) for v in node]
    return node


def differences(wanted: pa.Schema, table: pa.Schema) -> list[str]:
    """What of ``wanted`` contradicts the table's schema, in words.

    Columns that only one of the two has are no contradiction.
    """
    left = json.loads(delta_schema(wanted).to_json())
    right = json.loads(delta_schema(table).to_json())
    return list(_contradictions(left, right, ""))


def missing(wanted: pa.Schema, table: pa.Schema) -> pa.Schema:
    """The top-level fields of ``wanted`` that the table lacks or has with fewer nested fields."""
    have = {f["name"]: f for f in json.loads(delta_schema(table).to_json())["fields"]}
    absent = []
    for field in wanted:
        asked = json.loads(delta_schema(pa.schema([field])).to_json())["fields"][0]
        mine = have.get(field.name)
        if mine is None or _lacks(asked["type"], mine["type"]):
            absent.append(field)
    return pa.schema(absent)


def _lacks(asked: Any, mine: Any) -> bool:
    """Whether the asked type has a nested field that the table's type has not."""
    if not isinstance(asked, dict) or not isinstance(mine, dict):
        return False
    if asked["type"] == "struct":
        have = {f["name"]: f["type"] for f in mine.get("fields", [])}
        return any(
            f["name"] not in have or _lacks(f["type"], have[f["name"]]) for f in asked["fields"]
        )
    return any(_lacks(asked[k], mine.get(k)) for k in _CHILDREN if k in asked)


_CHILDREN = ("elementType", "keyType", "valueType")


def _contradictions(wanted: Any, table: Any, path: str) -> Iterator[str]:
    kinds = [kind if isinstance(kind, str) else str(kind["type"]) for kind in (wanted, table)]
    if kinds[0] != kinds[1]:
        yield f"{path}: {kinds[0]} is asked for, the table has {kinds[1]}"
    elif kinds[0] == "struct":
        yield from _struct_contradictions(wanted, table, path)
    elif not isinstance(wanted, str):
        for child in _CHILDREN:
            if child in wanted:
                yield from _contradictions(wanted[child], table[child], f"{path}.{child}")


def _struct_contradictions(wanted: Any, table: Any, path: str) -> Iterator[str]:
    have = {f["name"]: f for f in table["fields"]}
    by_case = {name.lower(): name for name in have}
    for field in wanted["fields"]:
        name = field["name"]
        where = f"{path}.{name}" if path else name
        if name in have:
            yield from _contradictions(field["type"], have[name]["type"], where)
        elif name.lower() in by_case:
            yield f"{where}: differs only in case from the table's {by_case[name.lower()]!r}"


REFUSED_CHARACTERS = frozenset(" ,;{}()\n\t=")
"""What Spark refuses in column names of tables without column mapping."""


def refuse_names(schema: pa.Schema, where: str) -> None:
    """Refuse column names that another engine could not read, or that differ only in case.

    Raises:
        SchemaConflict: Naming the column.
    """
    for path, names in _levels(list(schema), ""):
        seen: dict[str, str] = {}
        for name in names:
            if name.lower() in seen:
                raise SchemaConflict(
                    f"{where}: columns {path}{seen[name.lower()]!r} and {path}{name!r} are one "
                    "name to Delta",
                    hint="Rename one of the fields.",
                )
            seen[name.lower()] = name
            if not name or REFUSED_CHARACTERS & set(name):
                raise SchemaConflict(
                    f"{where}: {path}{name!r} cannot be a column name in Delta",
                    hint="Use letters, digits and underscores.",
                )


def _levels(fields: list[pa.Field], path: str) -> Iterator[tuple[str, list[str]]]:
    yield path, [field.name for field in fields]
    for field in fields:
        for kind in _structs_in(field.type):
            yield from _levels(list(kind), f"{path}{field.name}.")


def _structs_in(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The structs that a type is, or holds as elements, keys or values."""
    if pa.types.is_struct(kind):
        yield kind
    elif pa.types.is_map(kind):
        yield from _structs_in(kind.key_type)
        yield from _structs_in(kind.item_type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _structs_in(kind.value_type)
