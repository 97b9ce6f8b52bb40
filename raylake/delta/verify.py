"""``verify``: proves from the tables themselves that every offset is accounted for (DESIGN §4).

Three levels, each on top of ``log``: ``log`` reads the logs only; ``data`` reads the coordinates of
every row; ``broker`` asks the cluster; ``all`` does the three. Nothing is written, nothing is
locked, and a pipeline may run meanwhile: each table is judged at the version that was read first.

The answer for a table that was not damaged is the same before and after a checkpoint, log clean-up,
vacuum and compaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raylake.clock import Clock, SystemClock
from raylake.delta.log_reader import LogReader
from raylake.delta.verify_broker import BrokerLookup, check_broker
from raylake.delta.verify_data import AttributedLetters, check_data
from raylake.delta.verify_letters import (
    LettersTable,
    Pending,
    balance,
    pending_of,
    read_letters,
)
from raylake.delta.verify_log import LogAccount, read_account
from raylake.delta.verify_model import (
    KINDS,
    LEVELS,
    DeadLetterAccount,
    Finding,
    FindingList,
    PartitionAccount,
    PipelineReport,
    VerifyReport,
)
from raylake.delta.verify_offsets import DEFAULT_BUDGET_BYTES
from raylake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TableToVerify:
    """A table of a pipeline.

    Attributes:
        path: Its folder.
        name: Its name in the dead-letter table's column ``table``, as ``bronze.orders``.
    """

    path: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to verify.

    Attributes:
        level: ``log``, ``data``, ``broker`` or ``all``.
        broker_lookup: The cluster; needed for ``broker`` and ``all``.
        memory_bytes: Memory for the offsets seen, at ``data``; more offsets cost more passes.
        clock: Time, for the report.
    """

    level: str = "log"
    broker_lookup: BrokerLookup | None = None
    memory_bytes: int = DEFAULT_BUDGET_BYTES
    clock: Clock = SystemClock()  # noqa: RUF009 - it holds no state

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ConfigError(
                f"verify has no level {self.level!r}", hint=f"one of {', '.join(LEVELS)}"
            )
        if self.broker and self.broker_lookup is None:
            raise ConfigError(
                f"level {self.level!r} asks the broker, and no cluster was given",
                hint="give the pipeline's cluster, or choose the level log or data",
            )

    @property
    def data(self) -> bool:
        """Whether rows are read."""
        return self.level in ("data", "all")

    @property
    def broker(self) -> bool:
        """Whether the cluster is asked."""
        return self.level in ("broker", "all")


def verify(
    table_path: str,
    dead_letter_path: str | None,
    pipeline: str,
    level: str = "log",
    broker_lookup: BrokerLookup | None = None,
    *,
    table_name: str | None = None,
) -> VerifyReport:
    """Verify one table.

    When other tables feed the same dead-letter table, its rows can be told apart only by
    ``table_name``, at the level ``data``; verify the pipeline as a whole to compare them by log.

    Args:
        table_path: The table's folder.
        dead_letter_path: The dead-letter table's folder; None when the pipeline has none.
        pipeline: The pipeline's name.
        level: ``log``, ``data``, ``broker`` or ``all``.
        broker_lookup: The cluster, for ``broker`` and ``all``.
        table_name: The table's name in the dead-letter table.

    Raises:
        ConfigError: The level is unknown, or needs a cluster that was not given.
        NotOurTable: There is no Delta table at the path.
        UnsupportedTable: Its log has a form that is not read here.
        DependencyUnreachable: No broker answers.
    """
    options = VerifyOptions(level, broker_lookup)
    started = options.clock.monotonic()
    findings = FindingList()
    letters = read_letters(dead_letter_path, pipeline, findings)
    table = _Table(TableToVerify(table_path, table_name), letters, findings)
    whole = table.alone()
    account = balance(letters, [(table.account, table.pending)], pipeline, findings, whole=whole)
    table.deeper(options, alone=whole)
    return table.report(pipeline, options, account, started)


def verify_pipeline(
    tables: Sequence[TableToVerify],
    dead_letter_path: str | None,
    pipeline: str,
    options: VerifyOptions | None = None,
) -> PipelineReport:
    """Verify all tables of a pipeline, and their dead letters as a whole.

    Args:
        tables: Every table that the pipeline fills.
        dead_letter_path: The dead-letter table's folder; None when the pipeline has none.
        pipeline: The pipeline's name.
        options: Level, cluster, memory.

    Raises:
        NotOurTable, UnsupportedTable, DependencyUnreachable: As :func:`verify`.
    """
    chosen = options or VerifyOptions()
    started = chosen.clock.monotonic()
    findings = FindingList()
    letters = read_letters(dead_letter_path, pipeline, findings)
    opened = [_Table(one, letters, FindingList()) for one in tables]
    account = balance(
        letters, [(t.account, t.pending) for t in opened], pipeline, findings, whole=True
    )
    reports = []
    for table in opened:
        since = chosen.clock.monotonic()
        table.deeper(chosen, alone=len(opened) == 1)
        reports.append(table.report(pipeline, chosen, None, since))
    return PipelineReport(
        pipeline,
        chosen.level,
        tuple(reports),
        account,
        findings.result(),
        {
            "dead_letter_version": account.version,
            "verified_at_s": chosen.clock.now(),
            "seconds": round(chosen.clock.monotonic() - started, 3),
        },
    )


class _Table:
    """One table under way."""

    def __init__(self, table: TableToVerify, letters: LettersTable, findings: FindingList) -> None:
        self.table = table
        self.letters = letters
        self.findings = findings
        self.account: LogAccount = read_account(LogReader(table.path), findings)
        self.pending: Pending = pending_of(self.account, letters, findings)
        self._relied: dict[str, Any] = {}

    def alone(self) -> bool:
        """Whether no other table feeds the dead-letter table."""
        if self.account.snapshot is None:
            return False
        return self.letters.feeders() <= {self.account.snapshot.metadata.id}

    def deeper(self, options: VerifyOptions, *, alone: bool) -> None:
        """The levels below the log."""
        if options.data:
            known = alone or self.table.name is not None
            self._relied["data"] = check_data(
                self.account,
                AttributedLetters(self.letters, self.pending, None if alone else self.table.name)
                if known
                else None,
                self.findings,
                budget_bytes=options.memory_bytes,
            )
        if options.broker and options.broker_lookup is not None:
            self._relied["broker"] = check_broker(
                self.account.partitions, options.broker_lookup, self.findings
            )

    def report(
        self,
        pipeline: str,
        options: VerifyOptions,
        letters: DeadLetterAccount | None,
        started_s: float,
    ) -> VerifyReport:
        """The report."""
        account, snapshot = self.account, self.account.snapshot
        history = account.history
        relied: dict[str, Any] = {
            "version": snapshot.version if snapshot else None,
            "table_id": snapshot.metadata.id if snapshot else None,
            "checkpoint": snapshot.checkpoint if snapshot else None,
            "commits_retained": [history.first, history.last],
            "commits_ours": history.ours,
            "commits_foreign": history.foreign,
            "footers_read": account.footers_read,
            "dead_letter_version": self.letters.snapshot.version if self.letters.snapshot else None,
            **self._relied,
            "verified_at_s": options.clock.now(),
            "seconds": round(options.clock.monotonic() - started_s, 3),
        }
        return VerifyReport(
            table=self.table.path,
            pipeline=pipeline,
            level=options.level,
            partitions=account.partitions,
            live_rows=account.live_rows,
            live_files=snapshot.files.num_rows if snapshot else 0,
            dead_letters=letters,
            findings=self.findings.result(),
            relied_on=relied,
        )


__all__ = [
    "KINDS",
    "LEVELS",
    "BrokerLookup",
    "DeadLetterAccount",
    "Finding",
    "PartitionAccount",
    "PipelineReport",
    "TableToVerify",
    "VerifyOptions",
    "VerifyReport",
    "verify",
    "verify_pipeline",
]
