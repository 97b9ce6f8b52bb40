"""Rows between this process and Spark: Arrow to Parquet files in a scratch place, and back.

pyspark 3.5 would take them through pandas, row by row where types are odd.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from raylake.spark.engine_open import address
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, delete_tree, make_folder, names, open_input, place
from raylake.tables.space import require_space

_ROWS_PER_BATCH: Final = 65_536
FOLDER: Final = "_raylake_rows"
"""Below a table in a store; Delta passes over names that begin so."""
_PREFIX: Final = "raylake-rows-"
_HINT: Final = "nothing was written; free some space there, or name another scratch folder"


class Scratch:
    """A place that this process and every executor can reach.

    Args:
        folder: Its address.
    """

    def __init__(self, folder: str) -> None:
        self._folder = place(folder)

    @classmethod
    def of(cls, table: Place) -> Scratch:
        """That of a table: in its store; for one on a disk a temporary folder of this machine."""
        if isinstance(table, StorePath):
            return cls(str(table / FOLDER))
        return cls(tempfile.gettempdir())

    @contextmanager
    def given(self, session: SparkSession, rows: pa.Table) -> Iterator[DataFrame]:
        """Rows as Spark reads them, while the context lasts.

        Raises:
            NotEnoughSpace: They may not fit; nothing was written.
        """
        home = self._new()
        require_space(home, rows.nbytes, "handing rows to Spark", hint=_HINT)
        try:
            make_folder(home)
            _write(home / "rows.parquet", rows)
            yield session.read.parquet(address(home / "rows.parquet", session))
        finally:
            delete_tree(home)

    def taken(self, frame: DataFrame, schema: pa.Schema) -> pa.RecordBatchReader:
        """The rows of a frame in a schema; Spark has read them all when this returns.

        Its files are deleted when the reader is at its end, or dropped.
        """
        home = self._new()
        with ExitStack() as failed:
            failed.callback(delete_tree, home)
            frame.write.parquet(address(home, frame.sparkSession))
            failed.pop_all()
        return pa.RecordBatchReader.from_batches(schema, _read(home, schema))

    def _new(self) -> Place:
        return self._folder / f"{_PREFIX}{uuid.uuid4().hex}"


def _write(path: Place, rows: pa.Table) -> None:
    if isinstance(path, Path):
        pq.write_table(rows, path)
        return
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    path.put(sink.getvalue().to_pybytes())


def _read(home: Place, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        for name in sorted(names(home)):
            if not name.endswith(".parquet") or name.startswith((".", "_")):
                continue
            with open_input(home / name) as source, pq.ParquetFile(source) as file:
                for batch in file.iter_batches(_ROWS_PER_BATCH, use_threads=False):
                    yield batch.cast(schema)
    finally:
        delete_tree(home)
