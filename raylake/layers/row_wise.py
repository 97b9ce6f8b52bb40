"""Tables whose rows follow from single rows of a source, one table at a time.

``append``: each row becomes a row (:class:`AppendedRows`). ``upsert`` and ``scd1``: one row a key
(:mod:`raylake.layers.keyed_rows`). ``scd2``: each key's versions
(:mod:`raylake.layers.row_versions`).
"""

from __future__ import annotations

import pyarrow as pa

from raylake.layers.affected import refuse_left
from raylake.layers.derived import Deed, Derivation, Look, Shaped, SourceRows
from raylake.layers.keyed_rows import KeyedRows
from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.row_versions import VersionedRows
from raylake.layers.shape_plan import table_of
from raylake.layers.shaping import Shaper
from raylake.tables.requests import Append, Create


def derivation_of(spec: RowWiseSpec) -> Derivation:
    """How a table's rows follow from those of its source."""
    if spec.mode == "append":
        return AppendedRows(spec)
    if spec.mode == "scd2":
        return VersionedRows(spec)
    return KeyedRows(spec)


class AppendedRows:
    """Each row of the source becomes a row (``mode: append``).

    Args:
        spec: The table.
    """

    def __init__(self, spec: RowWiseSpec) -> None:
        self.spec = spec
        self._shaper = Shaper(spec)

    def table(self, source: pa.Schema) -> Create:
        """See :meth:`raylake.layers.derived.Derivation.table`."""
        return table_of(self.spec, self._shaper.plan(source))

    def columns(self, source: pa.Schema) -> tuple[str, ...]:
        """See :meth:`raylake.layers.derived.Derivation.columns`."""
        return self._shaper.plan(source).read

    def in_parts(self, source: pa.Schema) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.in_parts`."""
        del source
        return True

    def streams(self, source: pa.Schema, share: float) -> bool:
        """See :meth:`raylake.layers.derived.Derivation.streams`."""
        del source, share
        return False

    def shape(self, changes: SourceRows, look: Look) -> Shaped:
        """See :meth:`raylake.layers.derived.Derivation.shape`.

        Raises:
            SourceRowsLeft: Rows left the source.
        """
        del look
        refuse_left(self.spec, changes)
        found = self._shaper.shaped(changes.came)
        return Shaped(found.rows, found.origin, found.rejected)

    def deed(self, rows: pa.Table, changes: SourceRows, look: Look) -> Deed:
        """See :meth:`raylake.layers.derived.Derivation.deed`."""
        del look
        refuse_left(self.spec, changes)
        counts = {"rows": rows.num_rows}
        return Deed(last=Append(rows, schema="merge") if rows.num_rows else None, counts=counts)
