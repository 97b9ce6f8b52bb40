"""What a table's methods that write ask of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

import pyarrow as pa

from raylake.client.descriptions import after_restore
from raylake.client.incoming import as_arrow
from raylake.client.rows import Source
from raylake.config.addresses import normalise_table_address
from raylake.config.findings import Invalid
from raylake.delta.log_reader import LogReader
from raylake.maintenance.after_write import AfterWrite
from raylake.tables.errors import BadRequest
from raylake.tables.pins import schema_at
from raylake.tables.requests import (
    Append,
    Create,
    Delete,
    DeleteUnmatched,
    Overwrite,
    Restore,
    Scd2,
    SchemaMode,
    Update,
    UpdateUnmatched,
    Upsert,
    Write,
)
from raylake.tables.results import OperationResult
from raylake.tables.service import Route
from raylake.tables.upkeep_requests import Clone, Compact, ZOrder
from raylake.tables.versions import Versions


class MergeOptions(TypedDict, total=False):
    """How :meth:`Table.merge` merges; as :class:`~raylake.tables.requests.Upsert` has it."""

    update_when: str | None
    insert_when: str | None
    delete_when: str | None
    columns: Sequence[str] | None
    insert_columns: Sequence[str] | None
    insert_only: bool
    not_matched_by_source: DeleteUnmatched | UpdateUnmatched | None
    sequence_by: str | Sequence[str]
    schema: SchemaMode
    optimize_after_write: Compact | ZOrder | None


class VersionOptions(TypedDict, total=False):
    """How :meth:`Table.scd2` keeps versions; as :class:`~raylake.tables.requests.Scd2` has it."""

    track: Sequence[str] | None
    delete_when: str | None
    valid_from: str
    valid_to: str
    is_current: str
    kept_changes: str
    optimize_after_write: Compact | ZOrder | None


class TableWrites:
    """A table, and what can be done to it.

    Each operation is one version or none, and gives a result, or raises a
    :class:`~raylake.tables.errors.TableError` that says whether the table changed.

    Args:
        source: The table.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def name(self) -> str:
        """``layer.name``."""
        return self._source.name

    @property
    def address(self) -> str:
        """Where it lies."""
        return self._source.address

    @property
    def version(self) -> int:
        """The newest version.

        Raises:
            TableMissing: There is no such table.
        """
        return Versions(self._source.root).latest

    @property
    def schema(self) -> pa.Schema:
        """The columns of the newest version.

        Raises:
            TableMissing: There is no such table.
        """
        return schema_at(self._source.root, self.version)

    def create(
        self,
        schema: pa.Schema,
        *,
        partition_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        constraints: Mapping[str, str] | None = None,
        description: str = "",
    ) -> OperationResult:
        """Make the table, empty.

        Args:
            schema: Columns; a field's metadata ``comment`` is the column's comment.
            partition_by: Partition columns, in order.
            properties: Delta table properties.
            constraints: CHECK constraints, name to condition.
            description: The table's comment.
        """
        wanted = names_of(partition_by, "partition_by") or ()
        return self.run(Create(schema, wanted, properties or {}, constraints or {}, description))

    def append(
        self,
        rows: Any,
        *,
        schema: SchemaMode = "strict",
        optimize_after_write: Compact | ZOrder | None = None,
    ) -> OperationResult:
        """Add rows: an Arrow table, a frame of pandas or polars, dicts, a DuckDB relation.

        Args:
            rows: The rows.
            schema: ``merge``: new columns are added to the table.
            optimize_after_write: As for :meth:`run`.
        """
        return self.run(Append(self._arrow(rows, "append"), schema), optimize_after_write)

    def overwrite(
        self,
        rows: Any,
        *,
        where: str | None = None,
        schema: Literal["strict", "merge", "overwrite"] = "strict",
        optimize_after_write: Compact | ZOrder | None = None,
    ) -> OperationResult:
        """Replace all rows, or those that a condition holds for.

        Args:
            rows: The new rows; with ``where`` each of them must fulfil it.
            where: The rows that are replaced.
            schema: ``merge``: new columns are added; ``overwrite``: the rows' columns are the
                table's.
            optimize_after_write: As for :meth:`run`.
        """
        request = Overwrite(self._arrow(rows, "overwrite"), where, schema)
        return self.run(request, optimize_after_write)

    def merge(
        self, rows: Any, keys: str | Sequence[str], **how: Unpack[MergeOptions]
    ) -> OperationResult:
        """Update the rows whose keys are there, insert the others.

        Args:
            rows: The source.
            keys: Columns of both sides by which rows match.
            **how: Conditions, columns and ``sequence_by`` of
                :class:`~raylake.tables.requests.Upsert`; ``optimize_after_write`` as for
                :meth:`run`.
        """
        options: dict[str, Any] = dict(how)
        after = options.pop("optimize_after_write", None)
        for name in ("columns", "insert_columns"):
            options[name] = names_of(options.get(name), name)
        options["sequence_by"] = listed(how.get("sequence_by", ()))
        return self.run(Upsert(self._arrow(rows, "merge"), listed(keys), **options), after)

    def scd2(
        self,
        rows: Any,
        keys: str | Sequence[str],
        sequence_by: str | Sequence[str],
        **how: Unpack[VersionOptions],
    ) -> OperationResult:
        """Bring changes into a table that holds each key's versions (SCD type 2).

        Args:
            rows: The changes, in any order, some of them perhaps known already.
            keys: What a thing is known by.
            sequence_by: The time of a change; further columns tell changes of one time apart.
            **how: The rest of :class:`~raylake.tables.requests.Scd2`, and ``optimize_after_write``
                as for :meth:`run`.
        """
        options: dict[str, Any] = {**how, "track": names_of(how.get("track"), "track")}
        after = options.pop("optimize_after_write", None)
        changes = self._arrow(rows, "scd2")
        return self.run(Scd2(changes, listed(keys), listed(sequence_by), **options), after)

    def delete(self, where: str) -> OperationResult:
        """Take away the rows that a condition holds for; ``true`` is every row."""
        return self.run(Delete(where))

    def update(self, set: Mapping[str, str], where: str | None = None) -> OperationResult:  # noqa: A002
        """Give columns new values.

        Args:
            set: Column to its new value, an expression: ``{"amount": "amount * 2"}``.
            where: The rows; None: all.
        """
        return self.run(Update(set, where))

    def restore(
        self, version: int | None = None, *, at: datetime | str | None = None
    ) -> OperationResult:
        """Make the table again what it was, as a new version.

        Args:
            version: What it was at this version.
            at: What it was at this time, with a zone.
        """
        source = self._source
        done = self.run(Restore(version, at))
        now = LogReader(source.address).snapshot(done.version_after).metadata.configuration
        told = after_restore(source, now) if done.changed else ""
        return replace(done, note="; ".join(filter(None, (done.note, told))))

    def clone(
        self,
        target: TableWrites | str,
        *,
        version: int | None = None,
        at: datetime | str | None = None,
        deep: bool = True,
        take_over: bool = False,
    ) -> OperationResult:
        """Make a table of its own from a version of this one; history and a ledger stay here.

        Args:
            target: The new table, ``lake.table("silver.copy")``, or its address.
            version: Its version; the newest unless ``version`` or ``at`` says another.
            at: As of this time, with a zone.
            deep: Whether the data is copied; else the clone names this table's files, and a vacuum
                of this table takes them from it.
            take_over: Take the address from another clone or migration that fills it, when you
                know that it has ended.
        """
        source = self._source
        where = target.address if isinstance(target, TableWrites) else _address(target)
        request = Clone(source.address, version, at, deep, take_over)
        return source.tables.execute(where, request, engine=source.engine)

    def run(
        self, operation: Write, optimize_after_write: Compact | ZOrder | None = None
    ) -> OperationResult:
        """Run an operation of :mod:`raylake.tables.requests`, as the other methods do.

        Args:
            operation: What to do.
            optimize_after_write: ``Compact()`` or ``ZOrder((column, …))``, which then follows, as
                a version of its own, where upkeep's measures find it worth it; the result's
                ``note`` says what was done and what was let be. The write is done, whatever becomes
                of that.
        """
        source = self._source
        done = source.tables.execute(source.address, operation, engine=source.engine)
        if optimize_after_write is None or not done.changed:
            return done
        told = AfterWrite.of(optimize_after_write)(source.tables, source.address, source.engine)
        return replace(done, note="; ".join(filter(None, (done.note, f"after it: {told}"))))

    def explain(self, operation: Write) -> Route:
        """Which engine would run an operation, and why; nothing is run.

        Args:
            operation: What would be done.
        """
        source = self._source
        return source.tables.explain(source.address, operation, engine=source.engine)

    def _arrow(self, rows: Any, what: str) -> pa.Table:
        return as_arrow(rows, lambda: self.schema, f"{self.name}: {what}")


def _address(text: str) -> str:
    """A table's address; a name alone would be a folder here.

    Raises:
        BadRequest: It is no address.
    """
    if "/" not in text:
        raise BadRequest(f"clone: {text!r} is no address", hint=f"give lake.table({text!r})")
    try:
        return normalise_table_address(text)
    except Invalid as error:
        found = error.findings[0]
        raise BadRequest(f"clone: {text}: {found.message}", hint=found.hint) from None


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several."""
    return (names,) if isinstance(names, str) else tuple(names)


def names_of(columns: Sequence[str] | None, what: str) -> tuple[str, ...] | None:
    """Names of columns; one string is a mistake, not a list of letters.

    Raises:
        BadRequest: It is a string.
    """
    if isinstance(columns, str):
        raise BadRequest(f"{what} is a list of names", hint=f"write {what}=[{columns!r}]")
    return None if columns is None else tuple(columns)
