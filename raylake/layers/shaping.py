"""Rows of a source in a table's columns: unwrapped, converted, chosen, and held against NOT NULL.

Every record becomes a row, a delete, or is rejected with the text of what is wrong; but those that
``where`` does not hold for, and tombstones that are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.columns import parse_partition
from raylake.delta.partition_values import reads_as_null
from raylake.delta.verify_offsets import Mask
from raylake.layers.bronze import partition_values
from raylake.layers.conversion import convert, texts_of
from raylake.layers.derived import SOURCE_VERSION, Rejected
from raylake.layers.envelopes import Records, keys_of_tombstones, records
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.shape_plan import ShapePlan, plan_of, values
from raylake.tables.cow_conditions import Judge

CONVERSION: Final = "type_conversion"
KEY_RULE: Final = "key"
TOMBSTONE_RULE: Final = "tombstone_key"
PARTITION_RULE: Final = "partition_value"
DELETE_RULE: Final = "delete_sequence"
_MOMENT: Final = "_timestamp"


@dataclass(frozen=True, slots=True)
class ShapedRecords:
    """Records of a source in a table's columns.

    Attributes:
        rows: Rows, with the columns of :attr:`~raylake.layers.shape_plan.ShapePlan.schema`.
        origin: For each row its place among the records.
        deletes: Deletes: the keys and what orders them have values, the other columns none.
        rejected: Records that are neither.
    """

    rows: pa.Table
    origin: pa.Array
    deletes: pa.Table
    rejected: tuple[Rejected, ...]


class Shaper:
    """Shapes rows of one source.

    Args:
        spec: The table.
    """

    def __init__(self, spec: RowWiseSpec) -> None:
        self.spec = spec
        self._plan: tuple[pa.Schema, ShapePlan] | None = None

    def plan(self, source: pa.Schema) -> ShapePlan:
        """How rows with these columns are shaped.

        Raises:
            TransformRefused: They lack what the definition needs.
        """
        source = pa.schema([one for one in source if one.name != SOURCE_VERSION])
        if self._plan is None or not self._plan[0].equals(source):
            self._plan = source, plan_of(self.spec, source)
        return self._plan[1]

    def shaped(self, came: pa.Table) -> ShapedRecords:
        """Records in the table's columns.

        Raises:
            TransformRefused: They lack what the definition needs.
        """
        plan = self.plan(came.schema)
        found = records(self.spec, came)
        work = _Work(came, found.rows, np.asarray(found.origin))
        rows, origin = self._rows(plan, work)
        deletes, problems = self._deletes(plan, came, found)
        rejected = (*found.rejected, *work.rejected, *problems)
        return ShapedRecords(rows, pa.array(origin), deletes, rejected)

    def _rows(self, plan: ShapePlan, work: _Work) -> tuple[pa.Table, np.ndarray]:
        for name, kind in plan.types.items():
            work.convert(name, kind)
        work.drop_failed()
        if plan.where is not None:
            with Judge() as judge:
                read = sorted({name for _, name in plan.where.columns})
                holds = judge.holds(
                    plan.where.sql("duckdb"), work.rows.num_rows, {"": work.rows.select(read)}
                )
            work.keep(holds)
        columns = {
            one.field.name: work.rows.column(one.column)
            if one.value is None
            else values(one.value, work.rows)
            for one in plan.outputs
        }
        for part in plan.partitions:
            column = columns[part.column]
            parts = [partition_values(chunk, part.transform) for chunk in column.chunks]
            columns[part.name] = pa.chunked_array(parts, plan.schema.field(part.name).type)
        fitted = [_fit(columns[field.name], field.type) for field in plan.schema]
        work.rows = pa.table(fitted, schema=plan.schema)
        self._refuse_partition_texts(work)
        for name in self.spec.keys:
            work.refuse_null(name, KEY_RULE, "a key has no value")
        required = list(self.spec.not_null)
        if self.spec.mode == "scd2":
            required.append(plan.order[0])
        for name in dict.fromkeys(required):
            if name not in self.spec.keys:
                work.refuse_null(name, f"not_null({name})", "it has no value")
        work.drop_failed()
        return work.rows, work.origin

    def _refuse_partition_texts(self, work: _Work) -> None:
        """Reject rows with a text that is null as a partition value: it would be lost."""
        for one in (parse_partition(text) for text in self.spec.partition_by):
            column = work.rows.column(one.name)
            if one.transform == "column" and pa.types.is_string(column.type):
                mask = np.array(pc.fill_null(reads_as_null(column), False).to_numpy(), dtype=bool)
                why = "as a partition value this text is null"
                work.fail(mask, PARTITION_RULE, one.name, column, why)

    def _deletes(
        self, plan: ShapePlan, came: pa.Table, found: Records
    ) -> tuple[pa.Table, tuple[Rejected, ...]]:
        """Deletes with their keys and what orders them.

        The sequence of a delete that has none is the time of its record, where the sequence is a
        time.
        """
        empty = plan.schema.empty_table()
        if not self.spec.keyed or not found.deletes.num_rows:
            return empty, ()
        work = _Work(came, found.deletes, np.asarray(found.delete_origin))
        if self.spec.envelope == "none":
            self._keys_of_tombstones(plan, work)
        else:
            for name in self._needed(plan):
                if name in plan.types:
                    work.convert(name, plan.types[name])
        work.drop_failed()
        work.rows = self._ordered(plan, work.rows)
        for name in self.spec.keys:
            work.refuse_null(name, KEY_RULE, "a key has no value")
        if plan.sequence:
            name = plan.order[0]
            why = "a delete that nothing orders has no place among the rows of its key"
            work.refuse_null(name, DELETE_RULE, why)
        work.drop_failed()
        return work.rows, tuple(work.rejected)

    def _needed(self, plan: ShapePlan) -> list[str]:
        named = (*self.spec.keys, *plan.order)
        return [found for one in named if (found := plan.source_of(one))]

    def _keys_of_tombstones(self, plan: ShapePlan, work: _Work) -> None:
        keys = [plan.source_of(name) for name in self.spec.keys]
        texts, problems = keys_of_tombstones(work.rows, keys)
        broken = np.array([one is not None for one in problems], dtype=bool)
        raw = work.rows.column("_key") if "_key" in work.rows.column_names else None
        for why in sorted({one for one in problems if one is not None}):
            mask = np.array([one == why for one in problems], dtype=bool)
            work.fail(mask, TOMBSTONE_RULE, "_key", raw, why)
        for name, column, text in zip(self.spec.keys, keys, texts, strict=True):
            kind = plan.schema.field(name).type
            converted = convert(text, kind)
            mask = converted.failed & ~broken
            work.fail(mask, TOMBSTONE_RULE, "_key", text, f"the key is no {kind} of {name!r}")
            work.put(column, converted.values)

    def _ordered(self, plan: ShapePlan, deletes: pa.Table) -> pa.Table:
        """Deletes in the table's columns."""
        columns = []
        for field in plan.schema:
            column = plan.source_of(field.name)
            named = field.name in self.spec.keys or field.name in plan.order
            if named and column in deletes.column_names:
                columns.append(_fit(deletes.column(column), field.type))
            else:
                columns.append(pa.nulls(deletes.num_rows, field.type))
        found = pa.table(columns, schema=plan.schema)
        if not plan.sequence or _MOMENT not in deletes.column_names:
            return found
        first = plan.schema.field(plan.order[0])
        if not pa.types.is_timestamp(first.type) and not pa.types.is_date(first.type):
            return found
        moment = deletes.column(_MOMENT).cast(first.type)
        filled = pc.coalesce(found.column(first.name), moment)
        return found.set_column(plan.schema.get_field_index(first.name), first, filled)


class _Work:
    """Rows on their way, and what was rejected of them.

    Args:
        came: The records that they are of.
        rows: The rows.
        origin: Their places among the records.
    """

    def __init__(self, came: pa.Table, rows: pa.Table, origin: np.ndarray) -> None:
        self._came = came
        self.rows = rows
        self.origin = origin
        self.rejected: list[Rejected] = []
        self._failed: Mask = np.zeros(rows.num_rows, dtype=bool)

    def convert(self, name: str, kind: pa.DataType) -> None:
        """A column in another type; rows that have failed already are not looked at again."""
        column = self.rows.column(name)
        found = convert(column, kind)
        for mask, why in (
            (found.failed & ~found.lossy, f"it is no {kind}"),
            (found.lossy, f"{kind} would lose a part of it"),
        ):
            self.fail(mask, CONVERSION, name, column, why)
        self.put(name, found.values)

    def put(self, name: str, column: pa.Array) -> None:
        """Set a column."""
        at = self.rows.schema.get_field_index(name)
        self.rows = self.rows.set_column(at, pa.field(name, column.type), column)

    def refuse_null(self, name: str, rule: str, why: str) -> None:
        """Reject rows without a value in a column."""
        column = self.rows.column(name)
        if column.null_count:
            mask = np.array(column.is_null().to_numpy(), dtype=bool)
            self.fail(mask, rule, name, None, why)

    def fail(
        self,
        mask: Mask,
        rule: str,
        column: str,
        texts: pa.Array | pa.ChunkedArray | None,
        why: str,
    ) -> None:
        """Reject rows that have not failed before."""
        new = mask & ~self._failed
        if not new.any():
            return
        self._failed |= new
        rows = self._came.take(pa.array(self.origin[new]))
        if texts is None:
            shown = pa.nulls(rows.num_rows, pa.string())
        else:
            shown = texts_of(texts.filter(pa.array(new)))
        self.rejected.append(Rejected(rows, rule, column, shown, why))

    def drop_failed(self) -> None:
        """Go on without the rows that failed."""
        if self._failed.any():
            self.keep(~self._failed)

    def keep(self, chosen: Mask) -> None:
        """Go on with some rows."""
        if chosen.all():
            return
        self.rows = self.rows.filter(pa.array(chosen))
        self.origin = self.origin[chosen]
        self._failed = self._failed[chosen]


def _fit(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return column if column.type.equals(kind) else column.cast(kind)
