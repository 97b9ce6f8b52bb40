"""The producer's own record: what was sent, where the broker put it, what must become of it.

The file is Parquet, one row a record, in no particular order. Any producer can write it, the
auditor (:mod:`raylake.demo.auditor`) reads it with DuckDB alone:

========== ================ ====================================================================
column     type             meaning
========== ================ ====================================================================
topic      string           the topic
partition  int32            from the broker's acknowledgement
offset     int64            from the broker's acknowledgement
md5        binary, nullable MD5 (16 bytes) of the exact value bytes; null for a null value
kind       string           what the record is, for people (``event``, ``malformed:truncated``…)
fate       string           ``row``: once in the table; ``dead``: once in the dead letters;
                            ``either``: once in one of them; ``aborted``: in neither
========== ================ ====================================================================

The file's schema metadata holds ``raylake.record`` = ``1`` and what the producer adds. The file has
its name only once it is complete; until then it is ``<name>.partial``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

FATES = frozenset({"row", "dead", "either", "aborted"})
_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("topic", _TEXT, nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("md5", pa.binary(16)),
        pa.field("kind", _TEXT, nullable=False),
        pa.field("fate", _TEXT, nullable=False),
    ]
)
_ROW_GROUP = 65_536


class RecordWriter:
    """Writes one producer's record file; a context manager.

    Leaving the block normally completes the file. Leaving it by an error leaves only
    ``<name>.partial`` without a footer, which no reader takes for a record.

    Args:
        path: The file; its folder is made.
        topic: The topic of all records.
        notes: Further schema metadata, such as the seed.
    """

    def __init__(self, path: Path, topic: str, notes: Mapping[str, str] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._topic = topic
        metadata = {"raylake.record": "1", **(notes or {})}
        self._schema = SCHEMA.with_metadata(metadata)
        self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd")
        self._rows: list[tuple[int, int, bytes | None, str, str]] = []
        self.written = 0

    def add(self, partition: int, offset: int, value: bytes | None, kind: str, fate: str) -> None:
        """Note one record that the broker has acknowledged.

        Raises:
            ValueError: ``fate`` is not one of :data:`FATES`, or ``offset`` is negative (a producer
                without acknowledgements reports -1).
        """
        if fate not in FATES or offset < 0:
            raise ValueError(f"partition {partition}: offset {offset}, fate {fate!r}")
        digest = None if value is None else hashlib.md5(value, usedforsecurity=False).digest()
        self._rows.append((partition, offset, digest, kind, fate))
        if len(self._rows) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        partitions, offsets, digests, kinds, fates = zip(*self._rows, strict=True)
        rows = len(self._rows)
        columns = [
            pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [self._topic]),
            pa.array(partitions, pa.int32()),
            pa.array(offsets, pa.int64()),
            pa.array(digests, pa.binary(16)),
            pa.array(kinds, pa.string()).dictionary_encode(),
            pa.array(fates, pa.string()).dictionary_encode(),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self.written += rows
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            if self._rows:
                self._flush()
            self._writer.close()
            self._partial.replace(self._path)
