"""What ``verify`` answers: an account per partition, findings, and what they rely on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from raylake.ingest.unit import Counts, PartitionState, SourcePartition, sum_counts

FORMAT = 1
"""Format number of :meth:`VerifyReport.to_dict` and :meth:`PipelineReport.to_dict`."""

LEVELS = ("log", "data", "broker", "all")

DIFFERENCE = "difference"
NOTICE = "notice"

SHOWN_PER_KIND = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the ledger says.

    Attributes:
        kind: A stable name, as ``rows`` or ``owner_number``; documented in :data:`KINDS`.
        where: File, version or partition.
        expected: What the ledger or the log asks for.
        found: What is there.
        hint: What to do next.
        severity: ``difference`` (the books don't balance) or ``notice`` (named, harmless).
    """

    kind: str
    where: str
    expected: str
    found: str
    hint: str = ""
    severity: str = DIFFERENCE

    @property
    def is_difference(self) -> bool:
        """Whether it makes the report fail."""
        return self.severity == DIFFERENCE


class FindingList:
    """Collects findings, bounded: of each kind the first :data:`SHOWN_PER_KIND`, and a count."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, finding: Finding) -> None:
        """Take one more."""
        key = (finding.kind, finding.severity)
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        if count <= SHOWN_PER_KIND:
            self._found.append(finding)

    def take(self, other: FindingList) -> None:
        """Take all that another list has."""
        self._found += other._found
        for key, count in other._counts.items():
            self._counts[key] = self._counts.get(key, 0) + count

    def result(self) -> tuple[Finding, ...]:
        """The findings, and one line for each kind of which more were found."""
        more = [
            Finding(kind, "…", "", f"{count - SHOWN_PER_KIND} more of this kind", "", severity)
            for (kind, severity), count in self._counts.items()
            if count > SHOWN_PER_KIND
        ]
        return (*self._found, *more)


@dataclass(frozen=True, slots=True)
class PartitionAccount:
    """The account of one partition in one table.

    Attributes:
        pipeline: The pipeline that admitted it.
        source: The partition of one incarnation of its topic.
        origin: The first offset admitted.
        next: The next offset to read.
        counts: What became of the offsets between them.
    """

    pipeline: str
    source: SourcePartition
    origin: int
    next: int
    counts: Counts

    @classmethod
    def of(cls, pipeline: str, source: SourcePartition, state: PartitionState) -> PartitionAccount:
        """The account that the ledger's state gives."""
        return cls(pipeline, source, state.origin, state.next, state.totals)

    @property
    def balanced(self) -> bool:
        """Whether ``next - origin`` is the sum of the counts, none of them negative."""
        counts = self.counts
        parts = (counts.rows, counts.dead, counts.absent, counts.lost, counts.dropped)
        return min(parts) >= 0 and self.next - self.origin == counts.total

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "pipeline": self.pipeline,
            **asdict(self.source),
            "origin": self.origin,
            "next": self.next,
            "offsets": self.next - self.origin,
            **asdict(self.counts),
            "balanced": self.balanced,
        }


@dataclass(frozen=True, slots=True)
class DeadLetterAccount:
    """Dead letters of the pipeline in the dead-letter table, against the tables' ledgers.

    Attributes:
        path: The dead-letter table; None when there is none.
        version: Its version.
        stored: Rows in it.
        pending: Rows of files that a data commit named and that the next owner still adds (I5).
        expected: Sum of ``dead`` over the tables; None when only a part of the tables was given.
        leaving: Rows in it that a rewind took back and that the next owner still takes out.
    """

    path: str | None
    version: int | None
    stored: int
    pending: int
    expected: int | None
    leaving: int = 0

    @property
    def balanced(self) -> bool:
        """Whether what is stored and stays, and what is pending, is what the ledgers count."""
        found = self.stored - self.leaving + self.pending
        return self.expected is None or found == self.expected


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result for one table.

    Attributes:
        table: The table's path.
        pipeline: The pipeline asked for.
        level: ``log``, ``data``, ``broker`` or ``all``.
        partitions: An account for each partition in the ledger, in order.
        live_rows: Rows of the live files, as the log counts them; None when it cannot be read.
        live_files: Number of live files.
        dead_letters: The dead letters of this table; of the pipeline in a report of
            :func:`~raylake.delta.verify.verify_pipeline`, where it stands on the whole.
        findings: Differences and notices.
        relied_on: Versions, checkpoint, retained commits, what was checked, seconds taken.
    """

    table: str
    pipeline: str
    level: str
    partitions: tuple[PartitionAccount, ...]
    live_rows: int | None
    live_files: int
    dead_letters: DeadLetterAccount | None
    findings: tuple[Finding, ...]
    relied_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def totals(self) -> Counts:
        """The sum over the partitions."""
        return sum_counts(p.counts for p in self.partitions)

    @property
    def ok(self) -> bool:
        """Whether nothing differs; notices don't count."""
        return no_difference(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--output json``."""
        return {
            "format": FORMAT,
            "ok": self.ok,
            "table": self.table,
            "pipeline": self.pipeline,
            "level": self.level,
            "partitions": [p.to_dict() for p in self.partitions],
            "totals": asdict(self.totals),
            "live_rows": self.live_rows,
            "live_files": self.live_files,
            "dead_letters": _letters(self.dead_letters),
            "findings": [asdict(f) for f in self.findings],
            "relied_on": dict(self.relied_on),
        }


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """The result for all tables of a pipeline.

    Attributes:
        pipeline: The pipeline.
        level: The level.
        tables: One report a table.
        dead_letters: The pipeline's dead letters as a whole.
        findings: Those that concern no single table.
        relied_on: Time taken and the dead-letter table's version.
    """

    pipeline: str
    level: str
    tables: tuple[VerifyReport, ...]
    dead_letters: DeadLetterAccount
    findings: tuple[Finding, ...]
    relied_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def totals(self) -> Counts:
        """The sum over the tables."""
        return sum_counts(t.totals for t in self.tables)

    @property
    def ok(self) -> bool:
        """Whether nothing differs in any table."""
        return all(t.ok for t in self.tables) and no_difference(self.findings)

    def all_findings(self) -> tuple[Finding, ...]:
        """Those of the tables and of the whole."""
        return (*(f for t in self.tables for f in t.findings), *self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--output json``."""
        return {
            "format": FORMAT,
            "ok": self.ok,
            "pipeline": self.pipeline,
            "level": self.level,
            "tables": [t.to_dict() for t in self.tables],
            "totals": asdict(self.totals),
            "dead_letters": _letters(self.dead_letters),
            "findings": [asdict(f) for f in self.findings],
            "relied_on": dict(self.relied_on),
        }


def no_difference(findings: Iterable[Finding]) -> bool:
    """Whether there are only notices."""
    return not any(f.is_difference for f in findings)


def _letters(account: DeadLetterAccount | None) -> dict[str, Any] | None:
    return None if account is None else {**asdict(account), "balanced": account.balanced}


KINDS: Mapping[str, str] = {
    "log_damaged": "a commit file is torn, empty or missing, or no checkpoint can be read",
    "log_tolerated": "a hint or checkpoint could not be read; something else served instead",
    "ledger": "the table has no ledger of ours, or a partition's txns are incomplete",
    "equation": "next - origin is not rows + dead + absent + lost + dropped",
    "rows": "the live files hold another number of rows than the ledger counts",
    "duplicate_file": "one file stands twice among the live files, or is added while it is live",
    "owner_number": "owner numbers don't follow each other: a commit was lost or overwritten",
    "chain": "a commit's range does not start where the ledger stood",
    "commit_rows": "the files of one commit hold another number of rows than it counts",
    "commit_torn": "a commit lacks the txns that its own metadata names",
    "final_state": "the table's txns are not those of the last commits",
    "foreign_commit": "a commit by somebody else",
    "dead_letters": "the dead-letter table holds another number than the ledgers count",
    "dead_letter_file": "a file of dead letters that a commit named is gone",
    "dead_letters_pending": "dead letters that the next owner still adds; nothing is lost",
    "dead_letters_leaving": "a rewind took dead letters back that the next owner still takes out",
    "file": "a live file is missing, unreadable, or not as the log says",
    "coordinates": "rows without topic, partition or offset, or of an unknown partition",
    "duplicate": "an offset that is in the table twice",
    "range": "an offset outside of what was admitted and read",
    "partition_rows": "a partition has another number of rows than its ledger counts",
    "dead_letter_duplicate": "a dead letter that is stored twice",
    "row_and_dead_letter": "an offset that is a row and a dead letter",
    "topic_recreated": "the topic's id is not the ledger's: it was deleted and created again",
    "topic_missing": "the broker does not know the topic",
    "beyond_end": "the ledger is ahead of the broker",
    "expired": "the broker no longer has the next offset to read",
    "not_admitted": "a partition of the broker that the ledger does not know yet",
}
"""Every kind of finding, in a sentence."""
