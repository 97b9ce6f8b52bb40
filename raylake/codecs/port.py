"""The port of all codecs: records in, rows and dead letters out.

Every decoder keeps one promise: each input row is either in ``Decoded.kept`` or in
``Decoded.dead``, never in both, and no record's bytes make :meth:`Decoder.decode` raise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TOMBSTONE = "_tombstone"
RESCUED = "_rescued_data"

RECORD_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)

UnknownFields = Literal["evolve", "rescue", "reject"]


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """Why one record is not a row.

    Attributes:
        row: Its row in the input batch.
        stage: ``decode`` (the bytes are no message of this format), ``validate`` (a good message
            that contradicts the schema) or ``build`` (only Arrow's column builder refused it).
        reason: What is wrong and where in the message; at most about 500 characters.
        error_class: The kind of fault, e.g. ``DuplicateKey``; a small fixed set.
    """

    row: int
    stage: str
    reason: str
    error_class: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch.

    Attributes:
        payload: The rows, with the decoder's ``schema``.
        kept: The input row of each payload row (int64), ascending.
        dead: The records that are no row, ascending by row.
        additions: When set, nothing else here is valid: the table needs these columns first. A
            field is new, or a column that exists with its whole new type (a struct with new
            fields inside). Evolve the schema (:func:`raylake.codecs.merge_schema`), make a
            decoder for it and decode the same records again: it asks for no more additions.
        by_row: The rows that a columnar decoder left to its row-by-row one, ascending; None where
            there is none such.
    """

    payload: pa.RecordBatch
    kept: npt.NDArray[np.int64]
    dead: list[DeadRecord] = field(default_factory=list)
    additions: pa.Schema | None = None
    by_row: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """What to decode, and into which columns.

    Attributes:
        format: ``json`` or ``raw``.
        schema: The payload's columns; columns that begin with ``_`` are ignored, so a table's
            whole schema may be given. Not used by ``raw``.
        unknown_fields: ``evolve``, ``rescue`` or ``reject`` (SPEC A6).
        max_columns: Greatest number of fields, nested ones included, that ``evolve`` grows to.
        max_depth: Greatest nesting of objects and arrays in a message; 1 is a flat object.
        max_message_bytes: Greatest size of a value, in bytes.
        careful: Take the exact path for every message (tests and benchmarks).
    """

    format: str = "json"
    schema: pa.Schema | None = None
    unknown_fields: UnknownFields = "evolve"
    max_columns: int = 1000
    max_depth: int = 64
    max_message_bytes: int = 16 * 1024 * 1024
    careful: bool = False


class Decoder(Protocol):
    """Turns records into rows and dead letters."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of ``Decoded.payload``: payload columns, then those of the codec (``_…``)."""

    def decode(self, records: pa.RecordBatch) -> Decoded:
        """Decode a batch that has ``RECORD_SCHEMA`` (only ``value`` is looked at).

        Guarantees: no content raises; every row is kept or dead; the order is kept.
        """
