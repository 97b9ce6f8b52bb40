"""An operation is tried until no other writer comes first; what became of it is read in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from raylake.clock import Clock
from raylake.delta.attempts import Ending
from raylake.errors import RayLakeError
from raylake.ingest.retry import RetryPolicy
from raylake.tables.landing import Landed
from raylake.tables.requests import Write
from raylake.tables.results import FileCounts, OperationResult, RowCounts

CONFLICTS: Final = RetryPolicy(attempts=10, initial_s=0.05, max_s=5.0)
"""How an operation that another writer came before is done again, on what is there then."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one try.

    Attributes:
        base: The version that it was applied to.
        count: Rows by outcome of the commit; asked only when there is one.
        found: The commit, as the log has it; None when it has none.
        error: What ended the try, also after the commit.
        conflict: Whether another writer came first.
        why: Why it was run in this way, where there is another.
        note: Why there was nothing to do, or no row to change.
    """

    base: int
    count: Callable[[Landed], RowCounts]
    found: Landed | None = None
    error: Exception | None = None
    conflict: bool = False
    why: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What an operation led to; see :class:`~raylake.tables.results.OperationResult`."""

    before: int
    after: int
    rows: RowCounts = field(default_factory=RowCounts)
    files: FileCounts = field(default_factory=FileCounts)
    attempts: int = 1
    why: str = ""
    note: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turns:
    """How often and how far apart an operation is tried.

    Attributes:
        clock: Time.
        conflicts: How often, and how far apart.
    """

    clock: Clock
    conflicts: RetryPolicy = CONFLICTS

    def until_done(
        self,
        operation: Write,
        once: Callable[[], Attempt],
        translated: Callable[[Exception], RayLakeError],
    ) -> Done:
        """Try an operation until it is in the log, has nothing to do, or fails for good.

        Args:
            operation: What is done.
            once: Tries it on the version that is there.
            translated: What an engine's error means where the log does not have the commit.

        Raises:
            RayLakeError: What the last try ended with.
        """
        failures = 0
        while True:
            tried = once()
            if tried.found is not None:
                after, rows = tried.found.version, tried.count(tried.found)
                files, tries = tried.found.files, failures + 1
                return Done(after - 1, after, rows, files, tries, tried.why, tried.note)
            if tried.error is None:
                rows = RowCounts(source=source_rows(operation))
                return Done(tried.base, tried.base, rows, attempts=failures + 1, note=tried.note)
            failures += 1
            if not tried.conflict or self.conflicts.exhausted(failures):
                raise translated(tried.error) from tried.error
            self.clock.sleep(self.conflicts.wait_s(failures))

    def result(
        self, operation: Write, named: tuple[str, str, str], work: Callable[[], Done]
    ) -> OperationResult:
        """Do an operation, and say what it did.

        Args:
            operation: What is done.
            named: The table's address, the engine, and why that one.
            work: Does it.
        """
        started_s = self.clock.monotonic()
        done = work()
        table, engine, why = named
        return OperationResult(
            operation=type(operation).__name__.lower(),
            table=table,
            engine=engine,
            why="; ".join(filter(None, (why or "the engine was named", done.why))),
            version_before=done.before,
            version_after=done.after,
            rows=done.rows,
            files=done.files,
            duration_s=self.clock.monotonic() - started_s,
            attempts=done.attempts,
            note=done.note,
            paths=done.paths,
        )


def ended(work: Callable[[], object]) -> Exception | None:
    """Do something; whatever error ended it."""
    errors: list[Exception] = []
    with Ending(lambda error: errors.append(error) if error is not None else None):
        work()
    return errors[0] if errors else None


def source_rows(operation: Any) -> int:
    """Rows that an operation brings."""
    rows = getattr(operation, "rows", None)
    return rows.num_rows if isinstance(rows, pa.Table) else 0
