"""The port that every engine implements; its contract is tests/contract/test_table_engines.py."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import pyarrow as pa

from raylake.tables.alongside import Alongside
from raylake.tables.requests import Changes, Read, Write
from raylake.tables.results import OperationResult, TableVersion


class Fence(NamedTuple):
    """What makes an operation of an earlier owner fail, also in flight (DESIGN §6).

    The operation's commit carries the txn ``app_id`` → ``number``, and is made only while the
    table has the number before it.
    """

    app_id: str
    number: int


class TableEngine(Protocol):
    """Runs operations on Delta tables, each atomically: one version, or none.

    Every error is a :class:`~raylake.tables.errors.TableError`, which says whether the table
    changed, or a :class:`~raylake.errors.DependencyUnreachable` or
    :class:`~raylake.errors.LogDamaged` from before anything was written.
    """

    @property
    def name(self) -> str:
        """The engine's name in results."""
        ...

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        why: str = "",
        fence: Fence | None = None,
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """Run an operation that writes.

        Args:
            table: The table's address.
            operation: What to do.
            why: Why this engine was chosen, for the result.
            fence: The number of the slot that the table's owner granted; None for a table without
                an owner.
            alongside: What the commit carries beside its rows: then exactly one version is made,
                also where no row changes.

        Raises:
            SlotClosed: The fence's number is not the table's next; nothing was written.
            ProgressMoved: The table's log does not say what ``alongside`` expects; nothing was
                written.
            BadRequest: This operation carries nothing (:data:`raylake.tables.carrying.CARRIERS`).
            TableError: Saying whether the table changed.
        """
        ...

    def read(self, table: str, request: Read) -> pa.RecordBatchReader:
        """Rows of one version, as a stream; the order of rows is not given.

        Raises:
            TableError: The request is wrong, or the version is gone.
        """
        ...

    def changes(self, table: str, request: Changes) -> pa.RecordBatchReader:
        """The change feed of a range of versions, as a stream; the order of rows is not given.

        Raises:
            TableError: The request is wrong, or a part of the range is gone or was not recorded.
        """
        ...

    def history(self, table: str, limit: int | None = None) -> list[TableVersion]:
        """The versions whose commits are left, newest first.

        Raises:
            TableError: There is no such table, or it cannot be read.
        """
        ...
