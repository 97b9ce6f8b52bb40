"""The exact path: messages one by one, parsed with nothing lost, built by row if need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raylake.codecs.exact_json import BadMessage, Node, clipped, parse, to_text
from raylake.codecs.nested import struct_converter
from raylake.codecs.port import RESCUED, TOMBSTONE, DeadRecord, DecoderSpec
from raylake.codecs.scalars import FITS, Converter, Row, dotted
from raylake.codecs.shapes import Shape, additions
from raylake.codecs.types import normalise_type
from raylake.errors import ConfigError

BUILD_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError)
_MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Plan:
    """What a decoder works out once.

    Attributes:
        spec: As asked for.
        fields: The payload's columns.
        schema: ``fields`` and the codec's own columns.
        convert: A whole message into a dict of columns.
    """

    spec: DecoderSpec
    fields: pa.Schema
    schema: pa.Schema
    convert: Converter

    @property
    def strict(self) -> bool:
        """Whether what does not fit whole is refused: there is no ``_rescued_data``."""
        return self.spec.unknown_fields == "reject"

    def batch(
        self, nodes: Sequence[dict[str, Any] | None], texts: Sequence[str | None]
    ) -> pa.RecordBatch:
        """The batch of converted messages; None is a tombstone.

        Raises:
            pa.ArrowException, ValueError, TypeError, OverflowError: Arrow refuses a value.
        """
        arrays = [
            pa.array([None if n is None else n.get(field.name) for n in nodes], field.type)
            for field in self.fields
        ]
        own = self.own_columns([node is None for node in nodes], texts)
        return pa.RecordBatch.from_arrays([*arrays, *own], schema=self.schema)

    def own_columns(
        self, tombstones: Sequence[bool], texts: Sequence[str | None]
    ) -> list[pa.Array]:
        """``_tombstone``, and ``_rescued_data`` unless strict."""
        own = [pa.array(tombstones, pa.bool_())]
        return own if self.strict else [*own, pa.array(texts, pa.string())]


def plan(spec: DecoderSpec) -> Plan:
    """The plan of a JSON decoder.

    Raises:
        ConfigError: There is no schema, or it has a type that JSON cannot fill.
    """
    if spec.schema is None:
        raise ConfigError("a JSON decoder needs a schema", hint="give one, or infer it")
    fields = pa.schema(
        [
            pa.field(field.name, normalise_type(field.type))
            for field in spec.schema
            if not field.name.startswith("_")
        ]
    )
    own = [pa.field(TOMBSTONE, pa.bool_())]
    if spec.unknown_fields != "reject":
        own.append(pa.field(RESCUED, pa.string()))
    return Plan(spec, fields, pa.schema([*fields, *own]), struct_converter(fields))


class ExactPath:
    """The doubtful messages of one batch, in ascending order of row.

    Attributes:
        rows: The input rows kept so far.
        dead: The others.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.rows: list[int] = []
        self._nodes: list[dict[str, Any] | None] = []
        self._texts: list[str | None] = []
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
                value,
                max_depth=self._plan.spec.max_depth,
                max_bytes=self._plan.spec.max_message_bytes,
            )
            converted, kept = self._plan.convert(node, (), row)
            if self._plan.strict:
                _refuse(row, kept)
        except BadMessage as bad:
            self.refuse(index, bad)
            return
        if self._plan.spec.unknown_fields == "evolve":
            self._see(row)
        self._keep(index, converted, None if kept is FITS else to_text(kept))

    def refuse(self, index: int, bad: BadMessage) -> None:
        """Make one message a dead letter."""
        self._bury(index, bad.stage, bad.reason, bad.error_class)

    def additions(self) -> pa.Schema | None:
        """The columns that the unknown fields of good messages ask for."""
        if self._seen is None:
            return None
        return additions(self._plan.fields, self._seen, self._plan.spec.max_columns)

    def build(self) -> list[pa.RecordBatch]:
        """The batches of the rows kept, in order; none when no row was.

        What only Arrow's builders refuse is found by halves and becomes a dead letter.
        """
        batches: list[pa.RecordBatch] = []
        broken: set[int] = set()
        waiting = [(0, len(self.rows))] if self.rows else []
        while waiting:
            start, end = waiting.pop()
            try:
                batches.append(self._plan.batch(self._nodes[start:end], self._texts[start:end]))
            except BUILD_ERRORS as error:
                if end - start == 1:
                    broken.add(start)
                    reason = clipped(f"{type(error).__name__}: {error}", _MAX_REASON_CHARACTERS)
                    self._bury(self.rows[start], "build", reason, "BuildFailure")
                    continue
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
        self.rows = [row for at, row in enumerate(self.rows) if at not in broken]
        self.dead.sort(key=lambda record: record.row)
        return batches

    def _see(self, row: Row) -> None:
        for path, name, node in row.unknown:
            if self._seen is None:
                self._seen = Shape.of(pa.struct(list(self._plan.fields)), top_level=True)
            at = self._seen.at(path)
            if at is not None:
                at.see_field(name, node, len(path))

    def _keep(self, index: int, node: dict[str, Any] | None, text: str | None) -> None:
        self.rows.append(index)
        self._nodes.append(node)
        self._texts.append(text)

    def _bury(self, row: int, stage: str, reason: str, error_class: str) -> None:
        self.dead.append(DeadRecord(row, stage, reason[:_MAX_REASON_CHARACTERS], error_class))


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
