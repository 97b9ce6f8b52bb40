"""What a consumer hands to a table's owner: offset ranges, files and their counts (DESIGN §4)."""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class SourcePartition:
    """One partition of one incarnation of a Kafka topic.

    Attributes:
        topic: The topic's name.
        topic_id: The topic's id (a UUID in text), which changes when the topic is created again.
        partition: The partition's number.
    """

    topic: str
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


def partition_names(sources: Iterable[SourcePartition]) -> dict[SourcePartition, str]:
    """A name for each partition; those of a topic that was created again have its id's beginning.

    Only where a name stands twice; then ``orders[0] (1f3c9a07)``.
    """
    listed = list(sources)
    counted = Counter(map(str, listed))
    return {s: f"{s} ({s.topic_id[:8]})" if counted[str(s)] > 1 else str(s) for s in listed}


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the offsets of a range; their sum is the range's length.

    Attributes:
        rows: Rows in the table.
        dead: Dead letters.
        absent: Control and aborted records, compacted gaps, records routed to another table.
        lost: Offsets that Kafka no longer had, recorded by ``on_data_loss: record``.
        dropped: Offsets left out by a named rule or command.
    """

    rows: int = 0
    dead: int = 0
    absent: int = 0
    lost: int = 0
    dropped: int = 0

    @property
    def total(self) -> int:
        """The number of offsets accounted for."""
        return self.rows + self.dead + self.absent + self.lost + self.dropped

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.dead + other.dead,
            self.absent + other.absent,
            self.lost + other.lost,
            self.dropped + other.dropped,
        )


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The half-open range ``[start, end)`` of one partition and what became of it.

    Attributes:
        source: The partition.
        start: The first offset.
        end: The next offset to read.
        counts: What became of each offset; ``counts.total == end - start``.
        leader_epoch: The leader epoch of the last batch, -1 when unknown.
        max_event_ms: The greatest event time that may move the watermark, in ms since the epoch.
    """

    source: SourcePartition
    start: int
    end: int
    counts: Counts
    leader_epoch: int = -1
    max_event_ms: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"{self.source}: [{self.start}, {self.end}) is not a range")
        if self.counts.total != self.end - self.start:
            raise ValueError(
                f"{self.source}: {self.counts} does not account for [{self.start}, {self.end})"
            )

    def then(self, later: OffsetRange) -> OffsetRange:
        """This range and the one that follows it, as one.

        Raises:
            ValueError: They are not adjacent ranges of one partition.
        """
        if later.source != self.source or later.start != self.end:
            raise ValueError(f"{later} does not follow {self}")
        seen = [ms for ms in (self.max_event_ms, later.max_event_ms) if ms is not None]
        return OffsetRange(
            self.source,
            self.start,
            later.end,
            self.counts + later.counts,
            max(self.leader_epoch, later.leader_epoch),
            max(seen) if seen else None,
        )


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file that lies in a table's folder and is not yet part of the table.

    Attributes:
        path: Relative to the table's folder, as the Delta log wants it (URL-encoded).
        size_bytes: The file's size.
        rows: Rows, from the footer.
        partition_values: Value of each partition column, as text; None for null.
        stats: Delta's statistics as JSON text (``numRecords minValues maxValues nullCount``).
    """

    path: str
    size_bytes: int
    rows: int
    partition_values: Mapping[str, str | None]
    stats: str


@dataclass(frozen=True, slots=True)
class Unit:
    """One hand-over of a consumer to a table's owner; accepted or refused whole.

    Attributes:
        pipeline: The pipeline's name.
        consumer: The consumer's name, for messages.
        generation: The assignment's generation under which the ranges were read (I7).
        schema_fingerprint: Fingerprint of the table schema the files were written with.
        ranges: At most one range per partition.
        files: Data files, none when every record is dead or absent.
        dead_letter_files: Files in the dead-letter table's folder, named by the data commit (I5).
        flagged: Event times kept but flagged (null, before 1970, far ahead), and late records.
        unit_id: Unique; a unit that is handed over again keeps it.
        trace: The context of its hand-over's span (W3C Trace Context); empty without tracing.
    """

    pipeline: str
    consumer: str
    generation: int
    schema_fingerprint: str
    ranges: tuple[OffsetRange, ...]
    files: tuple[DataFile, ...] = ()
    dead_letter_files: tuple[DataFile, ...] = ()
    flagged: Mapping[str, int] = field(default_factory=dict)
    unit_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    trace: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sources = [r.source for r in self.ranges]
        if len(set(sources)) != len(sources):
            raise ValueError(f"unit {self.unit_id} has two ranges of one partition")

    @property
    def counts(self) -> Counts:
        """The sum over the ranges."""
        return sum_counts(r.counts for r in self.ranges)

    def replace(self, **changes: object) -> Unit:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def sum_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of counts; zero for none."""
    total = Counts()
    for one in counts:
        total = total + one
    return total


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Where a table stands in one partition: the ledger's txns (DESIGN §4).

    Attributes:
        origin: The first offset admitted.
        next: The next offset to read; ``next - origin == totals.total``.
        totals: Running totals since ``origin``.
        leader_epoch: Leader epoch of the last commit, -1 when unknown.
        max_event_ms: Greatest event time that moved the watermark, None when none did.
    """

    origin: int
    next: int
    totals: Counts
    leader_epoch: int = -1
    max_event_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UnitOutcome:
    """The owner's answer to one unit.

    Attributes:
        unit_id: The unit.
        status: ``committed`` (in the table at ``version``), ``already`` (it was there before) or
            ``refused`` (nothing of it is in the table: drop what is held of these partitions, seek
            to ``ends``).
        version: The table's version that holds it; None when refused.
        ends: The table's end for each partition of the unit, after the fold.
        reason: Why it was refused: ``gap``, ``overlap``, ``mixed``, ``generation``, ``schema``,
            ``not_admitted``, ``file: …``.
    """

    unit_id: str
    status: str
    version: int | None
    ends: Mapping[SourcePartition, int]
    reason: str = ""
