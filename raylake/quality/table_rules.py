"""Rules that look at rows and a table: unique, foreign keys, freshness."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.quality import ForeignKey, Freshness
from raylake.quality.bounds import is_text, kind_text
from raylake.quality.duck import ask
from raylake.quality.errors import RuleRefused
from raylake.quality.pruning import at_most, few_of, since
from raylake.quality.row_rules import Mask, broken, nobody
from raylake.tables.errors import UnknownColumn
from raylake.tables.requests import Read

Reader = Callable[[Read], pa.RecordBatchReader]
BATCH_ROWS = 1_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Uniqueness:
    """In which columns rows must differ.

    Attributes:
        columns: The columns.
        keys: The table's merge keys; empty: it only grows.
        whole: Whether the table that is read holds the rows already (the source of a step).
    """

    columns: tuple[str, ...]
    keys: tuple[str, ...]
    whole: bool

    @property
    def by_merge(self) -> bool:
        """Whether the merge sees to it: rows that agree have one key, and become one row."""
        return bool(self.keys) and set(self.keys) <= set(self.columns) and not self.whole


class TakenValues:
    """The rows that come and what stands in the table, each looked at once.

    Args:
        about: The columns and keys.
        rows: The rows that come.
        read: Reads the table.
    """

    def __init__(self, about: Uniqueness, rows: pa.Table, read: Reader) -> None:
        self.about = about
        self.rows = rows
        self.whole = ~_has_null(rows, about.columns)
        self._read = read

    @functools.cached_property
    def hashes(self) -> _Hashes:
        """Of the rows that come."""
        return hashes(self.rows, self.about.columns)

    @functools.cached_property
    def there(self) -> pa.Table:
        """Rows of the table that share a hash with one of the rows: their columns and keys."""
        about, rows = self.about, self.rows
        names = list(dict.fromkeys((*about.columns, *(() if about.whole else about.keys))))
        wanted = pa.schema([(name, rows.schema.field(name).type) for name in names])
        found = []
        for part in batches(self._read, Read(_where(rows, about.columns), tuple(names))):
            alike = part.cast(wanted)
            same = _among(hashes(alike, about.columns), self.hashes)
            found.append(complete(alike.filter(pa.array(same)), about.columns))
        return pa.concat_tables([wanted.empty_table(), *found])


def duplicates(taken: TakenValues, stay: Mask) -> Mask:
    """The rows that agree with another row of the table, or an earlier one that comes.

    Rows of one merge key are versions of one row, and never duplicates of each other; nor is a
    row one of that which it replaces. A row without a value in one of the columns agrees with
    none (as for UNIQUE in SQL).

    Args:
        taken: The rows and the table.
        stay: The rows that are judged; others are as if they had not come.
    """
    about, rows = taken.about, taken.rows
    failed = nobody(rows.num_rows)
    places = np.flatnonzero(taken.whole & stay)
    if about.by_merge or not len(places):
        return failed
    mine = taken.hashes if len(places) == len(failed) else taken.hashes[places]
    suspects = _repeated(mine)
    if taken.there.num_rows:
        suspects |= _among(mine, hashes(taken.there, about.columns))
    if suspects.any():
        failed[_exactly(taken, stay, places[suspects])] = True
    return failed


def orphans(rule: ForeignKey, column: pa.ChunkedArray, reads: Sequence[Reader], where: str) -> Mask:
    """The rows whose value does not occur in the other table.

    Args:
        rule: The rule.
        column: The values; null passes.
        reads: Each reads rows in which the value may occur, pinned to one version.
        where: The rule, for messages.

    Raises:
        RuleRefused: The two columns cannot be compared.
        UnknownColumn: The other table lacks the column.
    """
    if column.null_count == len(column):
        return nobody(len(column))
    there = rule.references_column or rule.column
    common = column.type
    parts: list[pa.ChunkedArray] = []
    for read in reads:
        for part in batches(read, Read(few_of(column, there), (there,))):
            common = _common(common, part.schema.field(0).type, where)
            parts.append(part.column(0))
    chunks = [chunk for part in parts for chunk in part.cast(common).chunks]
    known = pa.chunked_array(chunks, type=common)
    found = pc.is_in(column.cast(common), value_set=known)
    return broken(pc.or_(found, pc.is_null(column)) if column.null_count else found)


@dataclass(frozen=True, slots=True)
class Age:
    """How old the newest value is.

    Attributes:
        newest_us: It, in microseconds since the epoch; None: there is none.
        stale: Whether that is too old.
    """

    newest_us: int | None
    stale: bool


def age(rule: Freshness, column: pa.ChunkedArray, read: Reader, now: dt.datetime) -> Age:
    """How old the newest value of the table is, with the rows that come.

    The table is asked for newer values than the limit first: files without any are passed over.

    Args:
        rule: The rule.
        column: The values that come; none arrives in a quiet time.
        read: Reads the table.
        now: The time, with a zone.
    """
    limit = now - dt.timedelta(seconds=rule.max_age_s)
    limit_us = (limit - _EPOCH) // dt.timedelta(microseconds=1)
    kind = column.type
    newest = _newest_us([column])
    if newest is None or newest < limit_us:
        found = None
        if pa.types.is_date(kind) or kind.tz is not None:
            start = limit.date() if pa.types.is_date(kind) else limit
            found = _newest_of(read, Read(since(start, rule.column), (rule.column,)))
        if found is None or found < limit_us:
            found = _newest_of(read, Read(columns=(rule.column,)))
        newest = max((one for one in (newest, found) if one is not None), default=None)
    return Age(newest, newest is None or newest < limit_us)


def hashes(rows: pa.Table, columns: Sequence[str]) -> _Hashes:
    """A number for each row; rows that agree in the columns have the same one."""
    named = pa.table([rows.column(name) for name in columns], _letters(len(columns)))
    query = f"SELECT hash({', '.join(_letters(len(columns)))}) AS h FROM hashed"  # noqa: S608
    return np.asarray(ask(query, hashed=named).column("h").to_numpy(), np.uint64)


def batches(read: Reader, request: Read) -> Iterator[pa.Table]:
    """The rows of a request by parts of about a million, none of them empty."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in read(request):
        held.append(batch)
        count += batch.num_rows
        if count >= BATCH_ROWS:
            yield pa.Table.from_batches(held)
            held, count = [], 0
    if count:
        yield pa.Table.from_batches(held)


def own(read: Reader, schema: pa.Schema) -> Reader:
    """Reads the table that a step writes: columns that it gets in this step are empty there."""

    def asked(request: Read) -> pa.RecordBatchReader:
        try:
            return read(request)
        except UnknownColumn:
            kept = pa.schema([schema.field(name) for name in request.columns or ()])
            return pa.RecordBatchReader.from_batches(kept, [])

    return asked


def complete(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The rows that have a value in each of the columns."""
    missing = _has_null(rows, columns)
    return rows.filter(pa.array(~missing)) if missing.any() else rows


def _where(rows: pa.Table, columns: Sequence[str]) -> str | None:
    found = (at_most(rows.column(name), name) for name in columns)
    return next((one for one in found if one is not None), None)


def _has_null(rows: pa.Table, columns: Sequence[str]) -> Mask:
    found = nobody(rows.num_rows)
    for name in columns:
        column = rows.column(name)
        if column.null_count:
            found |= np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False), np.bool_)
    return found


def _repeated(mine: _Hashes) -> Mask:
    """The rows whose hash another row has as well."""
    ordered = np.sort(mine)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return _among(mine, twice) if len(twice) else nobody(len(mine))


def _among(mine: _Hashes, known: _Hashes) -> Mask:
    """Which of the hashes stand among others; NumPy sorts for this, Arrow does not."""
    found = pc.is_in(pa.array(mine), value_set=pa.array(known))
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)


def _exactly(
    taken: TakenValues, stay: Mask, suspects: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Which of the suspects are duplicates, judged by their values; their places."""
    about, rows, there = taken.about, taken.rows, taken.there
    values = _letters(len(about.columns))
    keys = [f"k{number}" for number in range(0 if about.whole else len(about.keys))]
    columns = [*about.columns, *(about.keys if keys else ())]
    some = rows.take(pa.array(suspects))
    mine = pa.table([some.column(name) for name in columns], [*values, *keys])
    mine = mine.append_column("place", pa.array(suspects))
    theirs = pa.table([there.column(name) for name in columns], [*values, *keys])
    replaced = mine
    if keys:
        replaced = rows.select(list(about.keys)).filter(pa.array(stay)).rename_columns(keys)
    query = _query(values, keys, whole=about.whole)
    found = ask(query, mine=mine, theirs=theirs, replaced=replaced)
    return np.asarray(found.column("place").to_numpy(), np.int64)


def _query(values: Sequence[str], keys: Sequence[str], *, whole: bool) -> str:
    """Which rows of ``mine`` are duplicates of an earlier one, or of one of ``theirs``."""
    listed = ", ".join(values)
    to_t, to_f = (" AND ".join(f"m.{v} = {side}.{v}" for v in values) for side in "tf")
    if whole:
        # The table holds the rows: another one agrees where it has more of them.
        return f"""
            WITH t AS (SELECT {listed}, count(*) AS n FROM theirs GROUP BY ALL),
            f AS (SELECT {listed}, count(*) AS n, min(place) AS first FROM mine GROUP BY {listed})
            SELECT m.place FROM mine AS m JOIN f ON {to_f} LEFT JOIN t ON {to_t}
            WHERE m.place <> f.first OR COALESCE(t.n, 0) > f.n"""  # noqa: S608
    stays = f"ANTI JOIN replaced USING ({', '.join(keys)})" if keys else ""
    key = f"ROW({', '.join(keys)})" if keys else "place"
    return f"""
        WITH t AS (SELECT DISTINCT {listed} FROM theirs {stays}),
        m AS (SELECT *, {key} AS its_key FROM mine),
        f AS (SELECT {listed}, arg_min({key}, place) AS first FROM mine GROUP BY {listed})
        SELECT m.place FROM m JOIN f ON {to_f} LEFT JOIN t ON {to_t}
        WHERE m.its_key IS DISTINCT FROM f.first OR t.{values[0]} IS NOT NULL"""  # noqa: S608


def _letters(count: int) -> list[str]:
    return [f"v{number}" for number in range(count)]


def _common(one: pa.DataType, other: pa.DataType, where: str) -> pa.DataType:
    """The type in which values of both are compared exactly."""
    if one.equals(other):
        return one
    if is_text(one) and is_text(other):
        return pa.string()
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.int64()
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        scale = max(one.scale, other.scale)
        digits = max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal256(min(76, digits + scale), scale)
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz == other.tz:
        return pa.timestamp("us", one.tz)
    raise RuleRefused(
        f"{where}: the column is {kind_text(one)} and the one that it refers to {kind_text(other)}",
        hint="give both the same type",
    )


def _newest_of(read: Reader, request: Read) -> int | None:
    return _newest_us(part.column(0) for part in batches(read, request))


def _newest_us(columns: Iterable[pa.ChunkedArray]) -> int | None:
    """A date counts as its midnight in UTC, a time without a zone as one in UTC."""
    found = (pc.max(column) for column in columns)
    return max((time_us(one) for one in found if one.is_valid), default=None)


def time_us(value: pa.Scalar) -> int:
    """A date's or time's microseconds since the epoch; a date's midnight, without a zone UTC's."""
    kind = pa.timestamp("us", getattr(value.type, "tz", None))
    return int(value.cast(kind).cast(pa.int64()).as_py())
