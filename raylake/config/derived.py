"""The ``silver`` and ``gold`` sections: tables that follow from other tables."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, WithJsonSchema, field_validator

from raylake.config.base import Address, Column, Columns, Model, TableRef, choose
from raylake.config.bronze import ColumnType
from raylake.config.columns import PartitionField, parse_partition
from raylake.config.cron import check_cron
from raylake.config.findings import Finding, Invalid
from raylake.config.quality import Rule
from raylake.config.sql import names_in, tables_of
from raylake.config.units import Count, DurationS, SizeBytes, kind_of
from raylake.tables.errors import BadRequest, FeatureUnsupported
from raylake.tables.table_properties import check_properties

DAY_S = 86_400.0


def _check_trigger(text: str) -> str:
    if text not in ("watermark", "source_changed"):
        if not re.search(r"\s", text):
            raise Invalid(f"{text!r} is not a trigger", 'watermark, source_changed or "0 2 * * *"')
        check_cron(text)
    return text


def _check_partition(text: str) -> str:
    parse_partition(text)
    return text.strip()


def _check_condition(text: str) -> str:
    names_in(text)
    return text


def _check_of_row(text: str) -> str:
    for parts in names_in(text):
        if len(parts) > 1 and parts[0].lower() == "target":
            raise Invalid(
                f"{'.'.join(parts)!r} is of the table's row, and this asks the row that comes",
                "write COLUMN or source.COLUMN; update_when and resolve ask both",
            )
    return text


def _check_resolve(text: str) -> str:
    if text in ("latest", "source", "target"):
        return text
    return _of_both(
        text,
        "write latest, source or target, or a condition on source.COLUMN and "
        "target.COLUMN that holds where the row of the source wins",
    )


def _check_both_sides(text: str) -> str:
    return _of_both(
        text, "write source.COLUMN of the row that comes, target.COLUMN of the table's row"
    )


def _of_both(text: str, hint: str) -> str:
    for parts in names_in(text):
        if len(parts) < 2 or parts[0].lower() not in ("source", "target"):
            raise Invalid(f"{'.'.join(parts)!r} is a column of neither side", hint)
    return text


def _check_query(text: str) -> str:
    tables_of(text)
    return text


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _renamed(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    for i, name in enumerate(value):
        if not isinstance(name, str):
            raise Invalid("", findings=[Finding((i,), f"this is text, not {kind_of(name)}")])
        if name in value[:i]:
            raise Invalid("", findings=[Finding((i,), f"{name!r} is in this list twice")])
    return {name: name for name in value}


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _check_properties(properties: dict[str, str]) -> dict[str, str]:
    found = []
    for key, text in properties.items():
        try:
            check_properties({key: text}, "properties", spark=True)
        except (BadRequest, FeatureUnsupported) as error:
            found.append(Finding((key,), error.message, error.hint, on_key=True))
    if found:
        raise Invalid("", findings=found)
    return properties


Trigger = Annotated[str, AfterValidator(_check_trigger)]
"""``source_changed``, ``watermark``, or a schedule of five fields in UTC."""
Partition = Annotated[str, AfterValidator(_check_partition)]
Condition = Annotated[str, Field(min_length=1), AfterValidator(_check_condition)]
Resolve = Annotated[str, Field(min_length=1), AfterValidator(_check_resolve)]
OfRow = Annotated[str, Field(min_length=1), AfterValidator(_check_of_row)]
"""A condition on the columns of the row that comes."""
BothSides = Annotated[str, Field(min_length=1), AfterValidator(_check_both_sides)]
"""A condition on ``source.COLUMN`` and ``target.COLUMN``."""
SequenceBy = Annotated[
    tuple[Column, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}},
            ]
        }
    ),
]
"""One column, or several of which the first that differs decides."""
Renamed = Annotated[
    dict[Column, Column],
    BeforeValidator(_renamed),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]
"""A list of columns, or ``{new: old}``; the attribute is the latter."""
PropertyText = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Properties = Annotated[dict[str, PropertyText], AfterValidator(_check_properties)]
"""Delta table properties, by the allow-list of :mod:`raylake.tables.table_properties`."""


class DerivedTable(Model):
    """What all tables have that follow from others.

    Attributes:
        path: The table's address when it is not ``<lake>/<layer>/<name>``.
        partition_by: ``column``, ``date(column)`` or ``hour(column)``, as for bronze.
        zorder_by: One to four columns by which rows lie together, from the first write on.
        optimize_after_write: After a step, where upkeep finds it worth it: ``compact`` makes small
            files larger, ``zorder`` lays decayed regions along ``zorder_by`` as well.
        trigger: When the table is brought up to date: ``source_changed``; ``watermark``, once the
            source's watermark has passed the end of a day or an hour; or a schedule in UTC.
        types: Types that columns are converted to; what does not convert is quarantined.
        quality: What the rows are held against.
        target_file_bytes: The size of data files.
        max_hold_s: How long versions of the source are kept for this table when it stands still.
        widen_limit_bytes: Up to this size the table is rewritten by itself where a column of its
            source has become wider; a larger one is refused, with the command that does it.
        max_rows_per_trigger: A step takes no more rows of its source, by the log's statistics,
            where that can be cut; what is beyond comes with the next step.
        max_bytes_per_trigger: Nor more bytes of its data files.
        properties: Delta table properties.
        retain_s: Rows older than this leave (``raylake retain``); None: they stay.
        retain_by: The column of times or dates that says how old a row is.
    """

    path: Address | None = None
    partition_by: tuple[Partition, ...] = ()
    zorder_by: Annotated[tuple[Column, ...], Field(max_length=4)] = ()
    optimize_after_write: Literal["none", "compact", "zorder"] = "none"
    trigger: Trigger = "source_changed"
    types: dict[Column, ColumnType] = Field(default_factory=dict)
    quality: tuple[Rule, ...] = ()
    target_file_bytes: SizeBytes = Field(default=128 * 2**20, alias="target_file_size")
    max_hold_s: DurationS = Field(default=7 * DAY_S, alias="max_hold")
    widen_limit_bytes: SizeBytes = Field(default=2**30, alias="widen_limit")
    max_rows_per_trigger: Count = 1_000_000
    max_bytes_per_trigger: SizeBytes = 256 * 2**20
    properties: Properties = Field(default_factory=dict)
    retain_s: DurationS | None = Field(default=None, alias="retain")
    retain_by: Column = "_timestamp"

    @property
    def partition_fields(self) -> tuple[PartitionField, ...]:
        """``partition_by``, parsed."""
        return tuple(parse_partition(text) for text in self.partition_by)


class RowTable(DerivedTable):
    """A table whose rows follow from single rows of one source.

    Attributes:
        from_: The source.
        columns: The source's columns that it has, as new name to old; empty: all of them.
        where: Only rows of the source that this condition holds for.
        not_null: Columns without a value only by mistake: such rows are quarantined, and the
            table's column is NOT NULL.
        envelope: ``debezium``: rows are change events; what is in them is unwrapped.
        tombstones: What a record without a value does: ``delete`` its key, or nothing.
    """

    from_: TableRef = Field(alias="from")
    columns: Renamed = Field(default_factory=dict)
    where: Condition | None = None
    not_null: tuple[Column, ...] = ()
    envelope: Literal["none", "debezium"] = "none"
    tombstones: Literal["delete", "ignore"] = "delete"


class KeyedTable(RowTable):
    """A table with one row a key, or one row a key and span of time.

    Attributes:
        keys: The columns that tell rows apart; rows without a value in one are quarantined.
        sequence_by: What says which of two rows is the later one; ties by ``_timestamp``, topic,
            partition and offset.
        delete_when: A row for which this condition on its columns holds deletes its key.
    """

    keys: Columns
    sequence_by: SequenceBy = ()
    delete_when: OfRow | None = None


class MergedTable(KeyedTable):
    """A table with one row a key.

    Attributes:
        resolve: Which row stays of the table's and the one that comes: the ``latest``, always the
            ``source``'s, always the ``target``'s, or by a condition on ``source.COLUMN`` and
            ``target.COLUMN`` that holds where the row of the source wins.
        remember_deletes_s: How long deleted keys are remembered, since they were deleted here: a
            row that comes later than that brings its key back, though it is older than the delete.
        insert_only: Rows that are there stay as they are, whatever their source says later.
        update_when: A condition on ``source.COLUMN`` and ``target.COLUMN``: a row that is there is
            changed only where it holds as well.
        insert_when: A condition on the columns of the row that comes: one of a new key is
            inserted only where it holds.
        update_columns: The columns that a change of a row writes, beside those that order rows;
            left out: all.
        insert_columns: The columns that a new row has, beside its keys and those; left out: all.
    """

    resolve: Resolve = "latest"
    remember_deletes_s: DurationS = Field(default=30 * DAY_S, alias="remember_deletes")
    insert_only: bool = False
    update_when: BothSides | None = None
    insert_when: OfRow | None = None
    update_columns: Columns | None = None
    insert_columns: Columns | None = None


class AppendTable(RowTable):
    """Each row of the source becomes a row.

    Attributes:
        on_source_delete: What happens when rows of the source change or leave: the table stops
            (``refuse``), or keeps the rows that it made of them (``ignore``).
    """

    mode: Literal["append"]
    tombstones: Literal["delete", "ignore"] = "ignore"
    on_source_delete: Literal["refuse", "ignore"] = "refuse"

    @field_validator("tombstones")
    @classmethod
    def _keeps_rows(cls, value: str) -> str:
        if value == "delete":
            raise Invalid("rows of mode append have no key to delete", "write ignore, or upsert")
        return value


class UpsertTable(MergedTable):
    """One row a key: the one with the greatest ``sequence_by``."""

    mode: Literal["upsert"]


class Scd1Table(MergedTable):
    """A dimension without history: one row a key, changed in place."""

    mode: Literal["scd1"]


class Scd2Table(KeyedTable):
    """A dimension with history: a new row when a tracked column changes.

    Attributes:
        track: The columns whose change makes a new row.
    """

    mode: Literal["scd2"]
    track: Columns
    sequence_by: Annotated[SequenceBy, Field(min_length=1)]


class AggregateTable(DerivedTable):
    """The result of a query, of which only the groups that changed are computed again.

    Attributes:
        sql: One SELECT over tables of the lake, each written ``layer.name``.
    """

    mode: Literal["aggregate"]
    sql: Annotated[str, Field(min_length=1), AfterValidator(_check_query)]

    @field_validator("quality")
    @classmethod
    def _groups_have_all_rows(cls, value: tuple[Rule, ...]) -> tuple[Rule, ...]:
        for i, rule in enumerate(value):
            if rule.when == "before" and rule.on_failure == "quarantine":
                message = "rows of the source cannot be set aside before a query"
                hint = "write the condition into WHERE, or judge the query's rows (when: after)"
                raise Invalid("", findings=[Finding((i, "when"), message, hint)])
        return value


SilverTable = Annotated[
    Annotated[AppendTable, Tag("<append>")]
    | Annotated[UpsertTable, Tag("<upsert>")]
    | Annotated[Scd1Table, Tag("<scd1>")]
    | Annotated[Scd2Table, Tag("<scd2>")],
    choose("mode"),
]
GoldTable = Annotated[
    Annotated[AppendTable, Tag("<append>")]
    | Annotated[UpsertTable, Tag("<upsert>")]
    | Annotated[Scd1Table, Tag("<scd1>")]
    | Annotated[Scd2Table, Tag("<scd2>")]
    | Annotated[AggregateTable, Tag("<aggregate>")],
    choose("mode"),
]
AnyDerived = AppendTable | UpsertTable | Scd1Table | Scd2Table | AggregateTable
"""A table of either section."""


def sources_of(table: AnyDerived) -> tuple[str, ...]:
    """The tables that it reads, ``layer.name`` each; what it follows is the first."""
    return tables_of(table.sql) if isinstance(table, AggregateTable) else (table.from_,)
