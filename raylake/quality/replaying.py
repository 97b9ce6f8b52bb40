"""Which rows of the quarantine a replay takes, and which ones it closes with them.

A row of the source is known by its coordinates, else by its version and itself. One that was
rejected by several rules in the course of time is open several times; it goes again once, and all
that is open of it is closed with it. Rows that agree in all go together, so that their numbers in
``quarantine_id`` keep telling how many of them are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
import pyarrow as pa

from raylake.layers.derived import SOURCE_VERSION
from raylake.quality.duck import ask
from raylake.quality.pruning import few_of
from raylake.quality.quarantine import select
from raylake.tables.requests import Read

Reader = Callable[[Read], pa.RecordBatchReader]
_PLACE: Final = "replay_place"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a replay takes.

    Attributes:
        rows: Rows of the quarantine that go again, each row of the source once.
        closes: What is open of the same rows; these among it.
    """

    rows: pa.Table
    closes: pa.Table

    def only(self, places: Iterable[int]) -> Chosen:
        """Some of the rows, and what is open of them."""
        rows = self.rows.take(pa.array(list(places), pa.int64()))
        return Chosen(rows, ask(_OF_THESE, every=self.closes, chosen=rows).cast(self.closes.schema))


def choose(read: Reader, target_id: str, where: str | None = None) -> Chosen:
    """The open rows of a table that a condition holds for, and what agrees with them.

    Args:
        read: Reads the quarantine, each time at the same version.
        target_id: The table's id.
        where: A condition on the quarantine's columns.

    Raises:
        BadExpression, UnknownColumn: It is no condition on these columns.
    """
    every = open_rows(read, target_id)
    wanted = every if where is None else open_rows(read, target_id, where)
    closes = ask(_OF_THESE, every=every, chosen=wanted).cast(every.schema)
    return Chosen(ask(_ONCE, closes=closes).cast(every.schema), closes)


def open_rows(read: Reader, target_id: str, where: str | None = None) -> pa.Table:
    """The open rows of a table; raises as :func:`choose`."""
    found = select(read, where)
    mine = [one == target_id for one in found.column("target_table_id").to_pylist()]
    return found.filter(pa.array(mine, pa.bool_()))


def columns_of(rows: pa.Table) -> list[frozenset[str]]:
    """The columns that each row of the quarantine was kept with."""
    return [frozenset(orjson.loads(text)) for text in rows.column("row").to_pylist()]


def still_there(rows: pa.Table, names: Iterable[str], read: Reader) -> list[bool]:
    """Whether a source has rows that are equal to these.

    Args:
        rows: Rows of the source.
        names: The columns that are compared.
        read: Reads the source.
    """
    columns = [name for name in names if name != SOURCE_VERSION]
    by = next((one for one in ("_offset", *columns) if one in columns), None)
    if by is None:
        return [True] * rows.num_rows
    there = read(Read(few_of(rows.column(by), by), tuple(columns))).read_all()
    named = [f"v{number}" for number in range(len(columns))]
    mine = rows.select(columns).rename_columns(named)
    mine = mine.append_column(_PLACE, pa.array(np.arange(rows.num_rows)))
    same = " AND ".join(f"m.{name} IS NOT DISTINCT FROM t.{name}" for name in named)
    query = f"SELECT {_PLACE} FROM mine AS m WHERE EXISTS (SELECT 1 FROM theirs AS t WHERE {same})"  # noqa: S608
    found = set(ask(query, mine=mine, theirs=there.rename_columns(named)).column(0).to_pylist())
    return [place in found for place in range(rows.num_rows)]


_WHAT: Final = """concat_ws(chr(31), source_table_id, CASE
    WHEN _topic IS NULL OR _partition IS NULL OR _offset IS NULL
    THEN concat_ws(chr(31), 'row', source_version, "row")
    ELSE concat_ws(chr(31), 'offset', _topic, _partition, _offset) END)"""
"""What tells rows of a source apart, but for those that agree in all."""
_OF_THESE: Final = f"""
    SELECT * FROM every WHERE {_WHAT} IN (SELECT {_WHAT} FROM chosen)
    ORDER BY quarantined_at, source_version, _topic, _partition, _offset, quarantine_id"""  # noqa: S608
_ONCE: Final = f"""
    WITH numbered AS (
        SELECT *, {_WHAT} AS what, row_number() OVER
            (PARTITION BY {_WHAT}, "row", rule ORDER BY quarantine_id) AS nth FROM closes)
    SELECT * EXCLUDE (what, nth) FROM numbered
    QUALIFY row_number() OVER
        (PARTITION BY what, "row", nth ORDER BY quarantined_at DESC, quarantine_id) = 1
    ORDER BY quarantined_at, source_version, _topic, _partition, _offset, quarantine_id"""  # noqa: S608
