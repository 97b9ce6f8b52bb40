"""A condition looked for where its columns are no columns: in JSON texts and in raw bytes.

A JSON text holds it where one of its objects, however deep, has columns of the condition as fields
and fulfils it. Bytes that are no JSON are searched for the condition's own values, as whole words:
what the condition asks to be equal to a column must all be in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.verify_offsets import Mask
from raylake.tables.cow_conditions import Judge
from raylake.tables.expressions import Expression, Scope, condition

_DEPTH: Final = 40


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in some texts.

    Attributes:
        mask: Which of them hold the condition.
        as_words: How many of those are no JSON, and hold its values as words.
        unread: How many are no JSON, and could not be searched for words either.
    """

    mask: Mask
    as_words: int = 0
    unread: int = 0


class RawSearch:
    """Looks for a condition in texts and bytes. A context; not for several threads.

    Args:
        text: The condition.
        columns: Types of all columns that it names, from a table that has them.

    Raises:
        BadExpression, UnknownColumn: It is none on these columns.
    """

    def __init__(self, text: str, columns: pa.Schema) -> None:
        self._expression: Expression = condition(text, Scope({"": columns}, "where"))
        named = sorted({name for _, name in self._expression.columns})
        self._schema = pa.schema([columns.field(name) for name in named])
        self._judge = Judge()
        texts = [value for _, operator, value in self._expression.bounds() if operator == "="]
        self._words = [
            re.compile(rb"(?<!\w)" + re.escape(one.encode()) + rb"(?!\w)") for one in texts
        ]

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        self._judge.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes what was opened."""
        self._judge.__exit__(kind, error, trace)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the condition names."""
        return tuple(self._schema.names)

    @property
    def by_words(self) -> bool:
        """Whether the condition asks for values that can be looked for as words."""
        return bool(self._words)

    def search(self, texts: Iterable[str | bytes | None]) -> Found:
        """Look through texts; what is null holds nothing."""
        objects: list[Mapping[str, Any]] = []
        owners: list[int] = []
        by_words: list[int] = []
        count = unread = 0
        for at, text in enumerate(texts):
            count += 1
            if text is None:
                continue
            parsed, node = _parsed(text)
            if not parsed and not self._words:
                unread += 1
            elif not parsed and self.has_words(text):
                by_words.append(at)
            for one in _objects(node, set(self.names)):
                objects.append(one)
                owners.append(at)
        mask: Mask = np.zeros(count, np.bool_)
        if objects:
            rows = pa.table([_column(objects, one) for one in self._schema], schema=self._schema)
            holds = self._judge.holds(self._expression.sql("duckdb"), len(objects), {"": rows})
            mask[np.asarray(owners)[holds]] = True
        mask[by_words] = True
        return Found(mask, len(by_words), unread)

    def has_words(self, text: str | bytes) -> bool:
        """Whether a text has all values that the condition asks for, as words."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        return bool(self._words) and all(one.search(raw) for one in self._words)


def _parsed(text: str | bytes) -> tuple[bool, Any]:
    try:
        return True, json.loads(
            text, parse_float=str, parse_int=str, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError):
        return False, None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that names a field twice is none, as one of both would be passed over."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is named twice")
    return found


def _objects(node: Any, names: set[str], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The objects that have a column of the condition."""
    if depth > _DEPTH:
        return
    if isinstance(node, dict):
        if names & node.keys():
            yield node
        for one in node.values():
            yield from _objects(one, names, depth + 1)
    elif isinstance(node, list):
        for one in node:
            yield from _objects(one, names, depth + 1)
    elif isinstance(node, str) and node[:1] in ("{", "["):
        yield from _objects(_parsed(node)[1], names, depth + 1)


def _column(objects: Sequence[Mapping[str, Any]], field: pa.Field) -> pa.Array:
    texts = pa.array([_text(one.get(field.name)) for one in objects], pa.string())
    try:
        return pc.cast(texts, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.concat_arrays([_one(one, field.type) for one in texts])


def _one(value: pa.Scalar, kind: pa.DataType) -> pa.Array:
    """A value that its column could not hold is none of the column's."""
    try:
        return pc.cast(pa.array([value.as_py()], pa.string()), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(1, kind)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)
