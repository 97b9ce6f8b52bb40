"""What a row-wise table is to be, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["append", "upsert", "scd1", "scd2"]


@dataclass(frozen=True, slots=True)
class RowWiseSpec:
    """A table of which each row follows from rows of one source.

    Rows are taken out of their envelope, converted, chosen by ``where``, and given the table's
    columns, in this order: ``types`` and ``where`` name columns of the source; keys, ``track``,
    ``sequence_by``, ``not_null`` and ``partition_by`` name columns of the table.

    Attributes:
        name: ``layer.name``, for messages.
        mode: ``append``: each row of the source is a row. ``upsert`` and ``scd1``: one row a key,
            the greatest one. ``scd2``: each key's versions.
        keys: What a thing is known by; never null.
        sequence_by: What orders the rows of a key, before
            :data:`~raylake.layers.derived.TIES`; empty: these alone, or what an envelope says.
        track: The columns whose change makes a version (``scd2``).
        columns: The table's columns: name to a column of the source, or a value of it as SQL (see
            :mod:`raylake.tables.expressions`). None: the payload's; of ``scd2`` keys and ``track``.
        where: Only rows that this holds for. Deletes are not asked.
        types: Column of the source to its type in the table.
        not_null: Columns without which a row is rejected.
        partition_by: ``column``, ``date(column)``, ``hour(column)``.
        envelope: ``debezium``: rows lie in ``after`` and ``before``.
        tombstones: Kafka records without a value delete their key, or are passed over; None:
            they delete where the mode has keys and no envelope says deletes.
        resolve: Which row counts: ``latest`` the greatest; ``source`` the one that arrived last;
            ``target`` the one that the table has; or a condition on ``source`` and ``target`` by
            which an arriving row takes the place of the table's. Only with ``latest`` does the
            table not depend on the order in which rows arrive.
        insert_only: Rows that are there stay as they are, whatever the source says later.
        delete_when: An arriving row that this condition on the table's columns holds for deletes
            its key, as a delete at the row's place in the order.
        update_when: A row of the table is changed only where this condition on ``source`` and
            ``target`` holds as well; None: always.
        insert_when: A row of a key that is not there is inserted only where this condition on the
            arriving row holds; None: always.
        update_columns: The columns that a change writes, beside those that order rows; None: all.
        insert_columns: The columns that a new row has, beside keys and those; None: all.
        on_source_delete: What becomes of rows that leave the source: ``follow`` them (not with
            ``append``), ``ignore`` it, or ``refuse`` the step; None: follow, or refuse with
            ``append``.
        source_keys: Columns of the source of which no two of its rows are equal; empty: none.
        remember_deletes_s: How long deleted keys are remembered, in seconds; None: for good.
        properties: Delta table properties.
    """

    name: str
    mode: Mode
    keys: tuple[str, ...] = ()
    sequence_by: tuple[str, ...] = ()
    track: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    where: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    not_null: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    envelope: Literal["none", "debezium"] = "none"
    tombstones: Literal["delete", "ignore"] | None = None
    resolve: str = "latest"
    insert_only: bool = False
    delete_when: str | None = None
    update_when: str | None = None
    insert_when: str | None = None
    update_columns: tuple[str, ...] | None = None
    insert_columns: tuple[str, ...] | None = None
    on_source_delete: Literal["follow", "ignore", "refuse"] | None = None
    source_keys: tuple[str, ...] = ()
    remember_deletes_s: float | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def keyed(self) -> bool:
        """Whether rows are known by keys."""
        return self.mode != "append"

    @property
    def tombstones_delete(self) -> bool:
        """Whether Kafka's records without a value delete."""
        if self.tombstones is not None:
            return self.tombstones == "delete" and self.keyed
        return self.keyed and self.envelope == "none"

    @property
    def holds_back(self) -> bool:
        """Whether conditions or lists of columns make the order of arrival count."""
        held = (self.update_when, self.insert_when, self.update_columns, self.insert_columns)
        return any(one is not None for one in held)

    @property
    def when_rows_leave(self) -> str:
        """``follow``, ``ignore`` or ``refuse``."""
        if self.insert_only:
            return "ignore"
        return self.on_source_delete or ("follow" if self.keyed else "refuse")

    @classmethod
    def of(cls, name: str, table: Any, **more: Any) -> RowWiseSpec:
        """The spec of a table of the pipeline file.

        Args:
            name: ``layer.name``.
            table: The table's model; what it does not have is as above.
            **more: What the model does not say: ``source_keys``, ``properties``.
        """
        given: dict[str, Any] = {}
        for one in cls.__dataclass_fields__:
            found = getattr(table, one, None)
            if found is not None and one != "name":
                given[one] = found
        for one in ("keys", "sequence_by", "track", "not_null", "partition_by"):
            found = given.get(one, ())
            given[one] = (found,) if isinstance(found, str) else tuple(found)
        columns = given.get("columns")
        if columns is not None and not isinstance(columns, Mapping):
            given["columns"] = {column: column for column in columns}
        elif columns is not None and not columns:
            given["columns"] = None
        return cls(**{**given, **more, "name": name})
