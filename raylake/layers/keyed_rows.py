"""One row a key: the greatest one (``mode: upsert`` and ``mode: scd1``, which are the same).

The table is a fold: of each key the greatest event counts, by :mod:`raylake.layers.folding`,
whatever order events come in and however they are cut into steps. A
delete that counts leaves no row; so that an older row that comes later does not bring its key back,
deletes are remembered in a table beside (:data:`DELETES`). A newer row does. They may be remembered
for a time only: a row that comes later than that is taken for a new one.

Where rows left the source (it was updated, restored, or rows were deleted), their keys are read
from it anew, and what it says of them now takes the place of what the table has. Rows of such keys
have no single origin.

Only with ``resolve: latest`` does the table not depend on the order in which rows arrive. With
``source`` each step's greatest row counts, with ``target`` the first step's; deletes follow that.
With a condition, rows follow it, and deletes follow the order.

``delete_when`` makes deletes of rows before any of this. ``update_when``, ``insert_when`` and the
lists of columns (:mod:`raylake.layers.merging`) hold back what a step would write: what is held
back is not remembered, so there too the order of arrival counts. ``insert_only`` is ``target`` with
a source that is not followed where its rows change or leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from raylake.layers.affected import (
    Affected,
    Brought,
    range_of,
    refuse_left,
    rows_with_keys,
    without,
)
from raylake.layers.derived import Deed, Look, Shaped, SideWrite, SourceRows
from raylake.layers.folding import (
    DELETED,
    distinct,
    events_of,
    greatest,
    held_against,
    of_keys,
)
from raylake.layers.merging import check_merge, parted, written
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.shape_plan import ShapePlan, table_of
from raylake.layers.shaping import Shaper
from raylake.tables.expressions import quoted
from raylake.tables.requests import Create, Read, Upsert
from raylake.tables.scd1 import is_greater

DELETES: Final = "deletes"
"""The table beside a keyed one: keys that were deleted, and what orders their deletes."""
ANYWAY: Final = "raylake_anyway"
"""A column of an upsert's rows: whatever the table has, it gives way."""
_OFFSET: Final = "_offset"


class KeyedRows:
    """One row a key (``mode: upsert`` and ``mode: scd1``).

    Args:
        spec: The table.
    """

    def __init__(self, spec: RowWiseSpec) -> None:
        self.spec = replace(spec, resolve="target") if spec.insert_only else spec
        self._shaper = Shaper(spec)
        self._affected = Affected(spec, self._shaper)

    def table(self, source: pa.Schema) -> Create:
        """See :meth:`raylake.layers.derived.Derivation.table`."""
        create = table_of(self.spec, self._shaper.plan(source))
        check_merge(self.spec, create.schema)
        return create

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """See :meth:`raylake.layers.derived.Derivation.columns`."""
        return self._shaper.plan(source).read

    def in_parts(self, source: pa.Schema) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.in_parts`.

        Where the order decides in which steps come, a version is one step.
        """
        del source
        return self.spec.resolve == "latest" and not self.spec.holds_back

    def streams(self, source: pa.Schema, share: float) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.streams`."""
        del source, share
        return False

    def shape(self, changes: SourceRows, look: Look) -> Shaped:
        """See :meth:`raylake.layers.derived.Derivation.shape`.

        Raises:
            SourceRowsLeft: Rows left the source, and that is to be refused.
        """
        refuse_left(self.spec, changes)
        found = self._affected.brought(changes, look)
        return Shaped(found.rows, found.origin, found.rejected)

    def deed(self, rows: pa.Table, changes: SourceRows, look: Look) -> Deed:
        """See :meth:`raylake.layers.derived.Derivation.deed`."""
        spec, plan = self.spec, self._shaper.plan(changes.came.schema)
        brought = self._affected.brought(changes, look)
        rows, deleting = parted(spec, rows)
        gone = plan.only(deleting, (*spec.keys, *plan.order))
        deletes = pa.concat_tables([brought.deletes, gone])
        events = events_of(rows, self._deletes(deletes, brought.affected))
        counting = greatest(events, spec.keys, plan.order)
        counts = {"events": events.num_rows, "recomputed_keys": brought.affected.num_rows}
        memory = Memory(spec, plan, look)
        memory.hold_against(counting, brought.affected)
        anyway = of_keys(memory.standing, brought.affected, spec.keys)
        chosen = memory.standing
        if not self._told_apart(plan, chosen):
            chosen, anyway = self._against_the_table(plan, chosen, anyway, look)
        lost = self._without_events(plan, brought, counting)
        anyway = np.append(anyway, np.ones(lost.num_rows, dtype=bool))
        both = pa.concat_tables([chosen, lost])
        last = self._upsert(plan, both.append_column(ANYWAY, pa.array(anyway)))
        return Deed(first=memory.writes(), last=last, counts=counts)

    def _deletes(self, deletes: pa.Table, affected: pa.Table) -> pa.Table:
        if self.spec.resolve != "target":
            return deletes
        # What the table has stays; of affected keys the source has the say.
        return deletes.filter(pa.array(of_keys(deletes, affected, self.spec.keys)))

    def _told_apart(self, plan: ShapePlan, events: pa.Table) -> bool:
        """Whether what orders events and rows of the table tells them all apart."""
        if self.spec.resolve != "latest":
            return True
        return _OFFSET in plan.order and events.column(_OFFSET).null_count == 0

    def _against_the_table(
        self, plan: ShapePlan, events: pa.Table, anyway: np.ndarray, look: Look
    ) -> tuple[pa.Table, np.ndarray]:
        """The events that are greater than the table's rows; those take their places anyway."""
        keys = distinct(events, self.spec.keys)
        there = look.target(Read(where=range_of(keys)))
        missing = [one for one in plan.schema if one.name not in there.schema.names]
        rows = rows_with_keys(there, keys)
        for field in missing:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        rows = rows.select(plan.schema.names).cast(plan.schema)
        mark = "raylake_mine"
        # The table's rows come first: of equals they count, and nothing is written.
        mine = events_of(rows, rows.slice(0, 0))
        regular = events.filter(pa.array(~anyway))
        both = pa.concat_tables([mine, regular])
        flags = pa.array(np.repeat([False, True], [mine.num_rows, regular.num_rows]))
        found = greatest(both.append_column(mark, flags), self.spec.keys, plan.order)
        newer = found.filter(found.column(mark)).drop_columns([mark])
        chosen = pa.concat_tables([newer, events.filter(pa.array(anyway))])
        return chosen, np.ones(chosen.num_rows, dtype=bool)

    def _without_events(self, plan: ShapePlan, brought: Brought, counting: pa.Table) -> pa.Table:
        """Deletes of affected keys of which the source says nothing any more."""
        lost = without(brought.affected, counting, self.spec.keys)
        gone = plan.only(lost, self.spec.keys)
        return events_of(gone.slice(0, 0), gone)

    def _upsert(self, plan: ShapePlan, rows: pa.Table) -> Upsert | None:
        if not rows.num_rows:
            return None
        deleted, anyway = quoted(DELETED, "source"), quoted(ANYWAY, "source")
        newer, as_new = self._when(plan)
        any_anyway, any_delete = (
            bool(np.any(rows.column(one).to_numpy())) for one in (ANYWAY, DELETED)
        )
        if any_anyway:
            newer, as_new = f"{anyway} OR {newer}", f"{anyway} OR {as_new}"
        no_delete = [f"NOT {deleted}"] if any_delete else []
        updates, inserts = written(self.spec, plan)
        return Upsert(
            rows,
            self.spec.keys,
            update_when=_all(newer, self.spec.update_when, *no_delete),
            delete_when=f"{deleted} AND ({as_new})" if any_delete else None,
            insert_when=_all(self.spec.insert_when, *no_delete) or None,
            columns=updates,
            insert_columns=inserts,
            schema="merge",
        )

    def _when(self, plan: ShapePlan) -> tuple[str, str]:
        """When a row takes the place of the table's, and when a delete does."""
        resolve = self.spec.resolve
        if resolve == "source":
            return "TRUE", "TRUE"
        if resolve == "target":
            return "FALSE", "FALSE"
        as_new = is_greater(plan.order, or_equal=True)
        return (is_greater(plan.order) if resolve == "latest" else f"({resolve})"), as_new


def _all(*conditions: str | None) -> str:
    """That all of some conditions hold; empty where there is none."""
    return " AND ".join(f"({one})" for one in conditions if one)


class Memory:
    """The deletes that a keyed table remembers.

    Args:
        spec: The table.
        plan: Its rows' shape.
        look: Reads what is remembered.
    """

    def __init__(self, spec: RowWiseSpec, plan: ShapePlan, look: Look) -> None:
        self._spec = spec
        self._plan = plan
        self._look = look
        self._writes: tuple[SideWrite, ...] = ()
        self.standing: pa.Table = plan.schema.empty_table()

    def hold_against(self, events: pa.Table, affected: pa.Table) -> None:
        """Leave out rows older than a remembered delete (:attr:`standing`), and plan what is new.

        Args:
            events: One of each key.
            affected: Keys of which the source has the say, whatever is remembered.
        """
        self.standing = events
        spec, plan = self._spec, self._plan
        if spec.resolve in ("source", "target"):
            return
        remembered = self._remembered(pa.concat_tables([events.select(spec.keys), affected]))
        deleted = np.array(events.column(DELETED).to_numpy(), dtype=bool)
        free = of_keys(events, affected, spec.keys)
        if remembered is not None:
            asked = np.flatnonzero(of_keys(events, remembered, spec.keys) & ~deleted & ~free)
            some = events.take(pa.array(asked))
            kept = np.ones(events.num_rows, dtype=bool)
            kept[asked[held_against(some, remembered, spec.keys, plan.order)]] = False
            self.standing = events.filter(pa.array(kept))
        columns = [*spec.keys, *plan.order]
        new = events.filter(pa.array(deleted)).select(columns)
        forgotten = pa.table([pa.array([], one.type) for one in new.schema], schema=new.schema)
        if remembered is not None and affected.num_rows:
            mine = remembered.filter(pa.array(of_keys(remembered, affected, spec.keys)))
            forgotten = without(mine, new, spec.keys).select(columns)
        if new.num_rows or forgotten.num_rows:
            self._writes = (self._write(new, forgotten, affected),)

    def writes(self) -> tuple[SideWrite, ...]:
        """What is to be remembered, and what no longer is."""
        return self._writes

    def _remembered(self, keys: pa.Table) -> pa.Table | None:
        columns = (*self._spec.keys, *self._plan.order)
        found = self._look.side(DELETES, Read(where=range_of(keys), columns=columns))
        if found is None:
            return None
        schema = pa.schema([self._plan.schema.field(name) for name in columns])
        return rows_with_keys(found, keys).cast(schema)

    def _write(self, new: pa.Table, forgotten: pa.Table, affected: pa.Table) -> SideWrite:
        spec, order = self._spec, self._plan.order
        rows = pa.concat_tables([new, forgotten])
        flags: Mapping[str, np.ndarray] = {
            DELETED: np.repeat([False, True], [new.num_rows, forgotten.num_rows]),
            ANYWAY: of_keys(rows, affected, spec.keys),
        }
        for name, mask in flags.items():
            rows = rows.append_column(name, pa.array(mask))
        fields = [one.with_nullable(one.name not in spec.keys) for one in new.schema]
        write = Upsert(
            rows,
            spec.keys,
            update_when=f"{quoted(ANYWAY, 'source')} OR {is_greater(order)}",
            delete_when=quoted(DELETED, "source") if forgotten.num_rows else None,
            columns=(*spec.keys, *order),
        )
        create = Create(
            pa.schema([one.remove_metadata() for one in fields]),
            description=f"Deletes of {spec.name}, for late rows of the keys",
        )
        return SideWrite(DELETES, create, write, spec.remember_deletes_s)
