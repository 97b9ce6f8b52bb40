"""Folders of Parquet files: their schema from all footers, their partitions from folder names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from raylake.delta.log_store import files_of
from raylake.delta.partition_values import NULL_FOLDER
from raylake.delta.schema import delta_schema
from raylake.errors import SchemaConflict
from raylake.storage.place import Place, open_input
from raylake.tables.errors import FilesRefused, SchemaMismatch
from raylake.tables.partition_text import typed_values
from raylake.tables.rows import check_names, plain

_NAMED: Final = 3
"""Files that a message names."""
_WHOLE: Final = re.compile(r"^(0|-?[1-9]\d{0,17})$")
_DAY: Final = re.compile(r"^\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """One Parquet file.

    Attributes:
        path: Below the folder, as it lies there.
        size_bytes: Its size.
        footer: Its footer.
        schema: Its columns in Delta's types.
        values: What its folders' names say, by column.
    """

    path: str
    size_bytes: int
    footer: pq.FileMetaData
    schema: pa.Schema
    values: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ParquetFolder:
    """A folder of Parquet files with one schema.

    Attributes:
        root: The folder.
        parts: The files, by path.
        stored: The files' columns, in the order of the first file.
        partitions: The columns that the folders' names hold.
    """

    root: Place
    parts: tuple[ParquetPart, ...]
    stored: pa.Schema
    partitions: pa.Schema

    @property
    def schema(self) -> pa.Schema:
        """All columns, those of the folders' names last."""
        return pa.schema([*self.stored, *self.partitions])

    @property
    def rows(self) -> int:
        """Rows by the footers."""
        return sum(one.footer.num_rows for one in self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes of the files."""
        return sum(one.size_bytes for one in self.parts)

    def fingerprint(self) -> dict[str, int]:
        """Path to size in bytes: what tells that it is still the folder that was looked at."""
        return {one.path: one.size_bytes for one in self.parts}


def parquet_folder(root: Place, partition_by: pa.Schema | None, *, cast: bool) -> ParquetFolder:
    """Read every footer of a folder.

    Args:
        root: The folder.
        partition_by: Types of the columns in the folders' names; None: found from the values.
        cast: Whether the rows will be written anew, so that types that Delta lacks may be there.

    Raises:
        FilesRefused: It holds no Parquet files, others, a damaged one, or odd folders; by name.
        SchemaMismatch: The files do not have one schema, or Delta lacks a type; by name.
        BadColumnName: A column's name is none in Delta.
    """
    parts = [_part(root, path, size, cast=cast) for path, size in _data_files(root)]
    _refuse_mixed(root, parts)
    stored = parts[0].schema
    partitions = _partitions(root, parts, partition_by)
    twice = sorted(set(stored.names) & set(partitions.names))
    if twice:
        raise FilesRefused(
            f"{root}: column {twice[0]!r} is in the files and in the folders' names",
            hint="take it out of one of them",
        )
    folder = ParquetFolder(root, tuple(parts), stored, partitions)
    check_names(folder.schema, str(root))
    return folder


def _data_files(root: Place) -> list[tuple[str, int]]:
    try:
        tree = files_of(str(root)).tree("")
    except FileNotFoundError:
        tree = {}
    found: list[tuple[str, int]] = []
    others: list[tuple[str, int]] = []
    for path, size in sorted(tree.items()):
        if any(one[:1] in "_." and "=" not in one for one in path.split("/")):
            continue
        (found if path.endswith((".parquet", ".parq")) else others).append((path, size))
    if others:
        raise FilesRefused(
            f"{root} holds files that are not Parquet: {_some(path for path, _ in others)}",
            hint="move them away, or give their names an underscore in front",
        )
    if not found:
        raise FilesRefused(f"{root} holds no Parquet file", hint="check the address")
    return found


def _part(root: Place, path: str, size: int, *, cast: bool) -> ParquetPart:
    try:
        with open_input(root / path) as opened, pq.ParquetFile(opened) as parquet:
            footer, schema = parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise FilesRefused(
            f"{root}/{path} cannot be read: {error}", hint="mend it or move it away", path=path
        ) from error
    fields = [_in_delta(f"{root}/{path}", one, footer, cast=cast) for one in schema]
    return ParquetPart(path, size, footer, pa.schema(fields), _values(root, path))


def _in_delta(where: str, field: pa.Field, footer: pq.FileMetaData, *, cast: bool) -> pa.Field:
    """A column in its Delta type, nullable.

    Raises:
        SchemaMismatch: The files would have to be written anew for it, or Delta has no such type.
    """
    kind = field.type
    if _is_int96(field.name, footer):
        # A point in time, by what its writers mean with it.
        return pa.field(field.name, pa.timestamp("us", tz="UTC"))
    if not cast and _foreign(kind):
        raise SchemaMismatch(
            f"{where}: column {field.name!r} is {kind}, which no Delta file holds",
            hint="`raylake table migrate` writes the files anew",
            column=field.name,
        )
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.field(field.name, pa.timestamp("us", tz="UTC"))
    return plain(pa.field(field.name, kind))


def _foreign(kind: pa.DataType) -> bool:
    """Types of Parquet that Delta's readers do not expect in a file, at any depth."""
    types = pa.types
    if types.is_nested(kind):
        return any(_foreign(kind.field(place).type) for place in range(kind.num_fields))
    return bool(
        types.is_unsigned_integer(kind)
        or types.is_time(kind)
        or types.is_duration(kind)
        or types.is_float16(kind)
        or (types.is_timestamp(kind) and kind.unit == "ns")
        or types.is_fixed_size_binary(kind)
        or types.is_date64(kind)
    )


def _is_int96(name: str, footer: pq.FileMetaData) -> bool:
    columns = (footer.schema.column(place) for place in range(footer.num_columns))
    return any(one.path == name and one.physical_type == "INT96" for one in columns)


def _values(root: Place, path: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        name, sign, value = folder.partition("=")
        if not sign or not name or name in found:
            raise FilesRefused(
                f"{root}/{path}: the folder {folder!r} is no column=value",
                hint="files lie in the folder itself, or in column=value folders",
                path=path,
            )
        if not value:
            raise FilesRefused(
                f"{root}/{path}: the folder {folder!r} has an empty value, and among a Delta "
                "table's partition values that is null",
                hint=f"name it {name}={NULL_FOLDER} where null is meant",
                path=path,
            )
        found[unquote(name)] = None if value == NULL_FOLDER else unquote(value)
    return found


def _refuse_mixed(root: Place, parts: Sequence[ParquetPart]) -> None:
    """All files have the columns and the folders of the first one.

    Raises:
        SchemaMismatch, FilesRefused: Naming files on both sides.
    """
    kinds: dict[tuple[tuple[str, str], ...], list[ParquetPart]] = {}
    for one in parts:
        kinds.setdefault(_kind(one.schema), []).append(one)
    if len(kinds) > 1:
        first, second = list(kinds)[:2]
        differing = sorted({name for name, _ in set(first) ^ set(second)})
        lines = "; ".join(
            f"{_some(one.path for one in of_one)}: "
            + ", ".join(f"{name} {text}" for name, text in kind if name in differing)
            for kind, of_one in kinds.items()
        )
        raise SchemaMismatch(
            f"{root}: the files have {len(kinds)} schemas; they differ in "
            f"{', '.join(differing)}: {lines}",
            hint="write the fewer files anew with the others' schema, or move them away",
            columns=differing,
            files=[one.path for of_one in list(kinds.values())[1:] for one in of_one][:100],
        )
    by = tuple(parts[0].values)
    odd = [one.path for one in parts if tuple(one.values) != by]
    if odd:
        raise FilesRefused(
            f"{root}: {parts[0].path} lies below {list(by)}, other files do not: {_some(odd)}",
            hint="every file lies below the same columns, in the same order",
            files=odd[:100],
        )


def _kind(schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    found = []
    for one in schema:
        try:
            delta_schema(pa.schema([one]))
        except SchemaConflict as error:
            raise SchemaMismatch(f"column {one.name!r}: {error.message}") from None
        found.append((one.name, str(one.type)))
    return tuple(sorted(found))


def _partitions(root: Place, parts: Sequence[ParquetPart], asked: pa.Schema | None) -> pa.Schema:
    names = list(parts[0].values)
    if asked is None:
        texts = {name: [one.values[name] for one in parts] for name in names}
        return pa.schema([pa.field(name, _found_kind(texts[name])) for name in names])
    if sorted(asked.names) != sorted(names):
        raise FilesRefused(
            f"{root}: the folders' names hold {names}, asked for are {asked.names}",
            hint="name every column=value folder, and no other column",
        )
    for name in names:
        for one in parts:
            try:
                typed_values([one.values[name]], asked.field(name))
            except pa.ArrowInvalid:
                raise SchemaMismatch(
                    f"{root}/{one.path}: {name}={one.values[name]} is no {asked.field(name).type}",
                    column=name,
                ) from None
    return pa.schema([plain(asked.field(name)).with_nullable(True) for name in names])


def _found_kind(texts: Iterable[str | None]) -> pa.DataType:
    """Whole numbers, days, or texts: what each value can be."""
    known = [text for text in texts if text]
    if known and all(_WHOLE.match(text) for text in known):
        return pa.int64()
    if known and all(_DAY.match(text) and _is_day(text) for text in known):
        return pa.date32()
    return pa.string()


def _is_day(text: str) -> bool:
    try:
        pa.array([text]).cast(pa.date32())
    except pa.ArrowInvalid:
        return False
    return True


def _some(paths: Iterable[str]) -> str:
    listed = list(paths)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
