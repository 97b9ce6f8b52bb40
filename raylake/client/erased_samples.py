"""Samples of failing values in the history of rules (``_quality``), which an erasure takes away.

A sample says neither whose it is nor which row it is from. So all samples of the tables that rows
leave go, and those of every other table where one has the condition's values. What the rules found,
and how many rows failed, stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.client.erasure_subjects import texts
from raylake.config import Pipeline
from raylake.config.addresses import quality_path
from raylake.delta.tables_there import is_table
from raylake.delta.verify_offsets import Mask
from raylake.quality.history import SCHEMA
from raylake.tables.expressions import quoted
from raylake.tables.raw_search import RawSearch
from raylake.tables.requests import Read, Update
from raylake.tables.service import DirectTables

QUALITY: Final = "quality"
COLUMNS: Final = pa.schema([SCHEMA.field(name) for name in ("table", "value_sample")])
"""What is looked at."""
_TABLE, _SAMPLE = COLUMNS.names
_SAID: Final = (
    "case when failed > 0 then cast(failed as string) || ' of ' || cast(rows as string) || "
    "' rows; the samples of failing values are erased' else message end"
)


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples that leave the history of a pipeline's rules.

    Attributes:
        path: The history.
        tables: Those whose samples leave.
        search: Finds the condition's values.
    """

    path: str
    tables: frozenset[str]
    search: RawSearch

    @classmethod
    def of(cls, config: Pipeline, search: RawSearch, left: Iterable[str]) -> Self | None:
        """What is to leave the history; None where there is no history.

        Args:
            config: The pipeline.
            search: Finds the condition's values.
            left: The tables that rows leave, as ``layer.name``.
        """
        path = quality_path(config)
        if not is_table(path):
            return None
        by_words = cls(path, frozenset(), search)
        named = {
            str(row[_TABLE])
            for rows in _live(path)
            for row in rows.filter(pa.array(by_words.mask(rows))).to_pylist()
        }
        return cls(path, frozenset({*left, *named}), search)

    def mask(self, rows: pa.Table) -> Mask:
        """Which rows of :data:`COLUMNS` have such samples."""
        there = pc.fill_null(pc.greater(pc.list_value_length(rows[_SAMPLE]), 0), False)
        named = pc.is_in(rows[_TABLE], pa.array(sorted(self.tables), pa.string()))
        samples = ("\n".join(filter(None, one or ())) for one in rows[_SAMPLE].to_pylist())
        words = np.fromiter(map(self.search.has_words, samples), np.bool_, rows.num_rows)
        found: Mask = there.to_numpy() & (named.to_numpy() | words)
        return found

    def holds(self, rows: pa.Table) -> bool:
        """Whether such samples are among some rows."""
        return bool(self.mask(rows).any())

    def count(self) -> int:
        """How many results of rules have such samples now."""
        return sum(int(self.mask(rows).sum()) for rows in _live(self.path))

    def blank(self) -> None:
        """Take them out.

        Raises:
            RayLakeError: Why it was not done.
        """
        where = f"{quoted(_TABLE)} in ({texts(sorted(self.tables))})"
        # The message repeats them.
        request = Update({_SAMPLE: "NULL", "message": _SAID}, where)
        DirectTables().execute(self.path, request)


def _live(path: str) -> Iterable[pa.Table]:
    for batch in DirectTables().read(path, Read(None, tuple(COLUMNS.names))):
        yield pa.table(batch).cast(COLUMNS)
