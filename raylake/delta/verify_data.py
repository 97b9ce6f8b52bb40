"""The ``data`` level: every row's coordinates, read in bounded memory from the live files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.log_reader import LogReader
from raylake.delta.offset_tally import Tally, doomed_letters
from raylake.delta.pending import Withdrawal, Withdrawn
from raylake.delta.replaced_letters import Coordinates
from raylake.delta.verify_letters import NOT_COUNTED, LettersTable, Pending
from raylake.delta.verify_log import LogAccount, table_path
from raylake.delta.verify_model import Finding, FindingList
from raylake.delta.verify_offsets import DEFAULT_BUDGET_BYTES, Coverage, Mask, Offsets, OffsetSet
from raylake.ingest.unit import DataFile

BATCH_ROWS = 131_072
SAMPLES = 5

ROW_COLUMNS = ("_topic", "_partition", "_offset")
LETTER_COLUMNS = ("topic", "partition", "offset", "topic_id", "table")

Key = tuple[str, int]
OnFault = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class LiveFile:
    """One file to read.

    Attributes:
        path: As the log has it.
        size_bytes: By the log.
        rows: By the log; None when it does not say.
        values: Its partition values.
    """

    path: str
    size_bytes: int
    rows: int | None
    values: Mapping[str, str | None]


@dataclass(slots=True)
class _Tally:
    """Offsets with one fault in one partition: how many, and the first of them."""

    count: int = 0
    samples: list[str] = field(default_factory=list)

    def take(self, offsets: Offsets, path: str) -> None:
        self.count += len(offsets)
        for offset in offsets[: max(0, SAMPLES - len(self.samples))].tolist():
            self.samples.append(f"{offset} in {path}")

    def __str__(self) -> str:
        return f"{self.count}: " + ", ".join(self.samples)


@dataclass(frozen=True, slots=True)
class AttributedLetters:
    """The dead letters of one table.

    Attributes:
        table: The dead-letter table.
        pending: Dead letters that are not in it yet; they are read from their files.
        name: The data table's name in the column ``table``; None when no other table feeds it.
    """

    table: LettersTable
    pending: Pending
    name: str | None

    def batches(self, on_fault: OnFault) -> Iterator[tuple[str, pa.RecordBatch]]:
        """What counts: live letters and pending ones, without those that leave."""
        reader = self.table.reader
        if reader is None:
            return
        live = live_files(self.table.files) if self.table.files is not None else []
        parts = [(self.pending.taken_after(-1), live)]
        # Pending letters lie before a rewind where a run stored them after this table was read.
        for named in self.pending.commits:
            files = [
                as_live(f)
                for f in named.files
                if f.partition_values.get("stage") not in NOT_COUNTED
            ]
            parts.append((self.pending.taken_after(named.version), files))
        for withdrawn, files in parts:
            tests = [leaving_letters(reader, one, None, on_fault) for one in withdrawn]
            for path, batch in read(reader, files, LETTER_COLUMNS, on_fault):
                leaving = np.zeros(batch.num_rows, np.bool_)
                for leaves in tests:
                    leaving |= leaves(batch)
                yield path, batch.filter(pa.array(~leaving)) if leaving.any() else batch


def leaving_letters(
    reader: LogReader, one: Withdrawn, tally: Tally | None, on_fault: OnFault
) -> Callable[[pa.RecordBatch], Mask]:
    """What tells which letters of a batch of :data:`LETTER_COLUMNS` leave.

    Args:
        reader: The dead-letter table's log.
        one: Which leave; the coordinates of those that a replay replaced are read now.
        tally: Counts those that a rewind takes, and those of the same partitions that stay.
        on_fault: Told of files that cannot be read.
    """
    if isinstance(one, Withdrawal):
        counted = tally or Tally(one.ends)
        return lambda batch: doomed_letters(batch, one, counted)
    files = [as_live(file) for file in one.files]
    return Coordinates(b for _, b in read(reader, files, LETTER_COLUMNS, on_fault)).has


def as_live(file: DataFile) -> LiveFile:
    """A file that is not in the table yet, to be read like those that are."""
    return LiveFile(file.path, file.size_bytes, file.rows, file.partition_values)


def check_data(
    account: LogAccount,
    letters: AttributedLetters | None,
    findings: FindingList,
    *,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> dict[str, object]:
    """Check the rows and dead letters of one table offset by offset.

    Args:
        account: What the log says.
        letters: Its dead letters; None when they cannot be told from other tables'.
        findings: Where differences go.
        budget_bytes: Memory for the sets of offsets; what exceeds it costs another pass.

    Returns:
        What was read: rows, files, passes, dead letters (None when they were left out).
    """
    if account.snapshot is None:
        return {"rows_read": 0}
    check = _Check(account, findings, OffsetSet(budget_bytes))
    rows = live_files(account.snapshot.files)
    passes = 0
    while True:
        passes += 1
        if letters is not None:
            for path, batch in letters.batches(check.on_fault):
                check.letters(path, batch, letters.name)
        for path, batch in read(account.reader, rows, ROW_COLUMNS, check.on_fault):
            check.rows(path, batch)
        check.first = False
        if not check.seen.next_pass():
            break
    check.finish(with_letters=letters is not None)
    return {
        "rows_read": sum(check.row_counts.values()),
        "files_read": len(rows),
        "dead_letters_read": sum(check.letter_counts.values()) if letters is not None else None,
        "passes": passes,
    }


class _Check:
    """The state of one table's check."""

    def __init__(self, account: LogAccount, findings: FindingList, seen: OffsetSet) -> None:
        self.findings = findings
        self.seen = seen
        self.first = True
        self.row_counts: Counter[Key] = Counter()
        self.letter_counts: Counter[tuple[str, str, int]] = Counter()
        self._account = account
        self._tallies: dict[tuple[str, Key], _Tally] = {}
        self._topic_ids: dict[Key, set[str]] = {}
        ranges: dict[Key, list[tuple[int, int]]] = {}
        for one in account.partitions:
            key = (one.source.topic, one.source.partition)
            ranges.setdefault(key, []).append((one.origin, one.next))
        self._coverage = {key: Coverage(found) for key, found in ranges.items()}

    def on_fault(self, path: str, expected: str, found: str) -> None:
        """A file is missing, unreadable, or not what the log says."""
        if self.first:
            hint = "restore the file from a copy; do not vacuum before"
            self.findings.add(Finding("file", path, expected, found, hint))

    def rows(self, path: str, batch: pa.RecordBatch) -> None:
        """Take rows of the table."""
        for key, chosen in self._by_partition(path, batch, ROW_COLUMNS):
            offsets = _offsets(batch, ROW_COLUMNS[2], chosen)
            if self.first:
                self.row_counts[key] += len(offsets)
            inside = self._in_range(key, offsets, path)
            again = self._place(key, inside)
            dead = np.zeros(len(again), np.bool_)
            for topic_id in self._topic_ids.get(key, ()):
                dead |= self.seen.contains(key, again, ("dead", topic_id))
            self._tally("row_and_dead_letter", key, again[dead], path)
            self._tally("duplicate", key, again[~dead], path)

    def letters(self, path: str, batch: pa.RecordBatch, name: str | None) -> None:
        """Take dead letters, those of the table ``name``."""
        if name is not None:
            batch = batch.filter(pc.equal(batch.column("table"), name))
        for key, chosen in self._by_partition(path, batch, LETTER_COLUMNS):
            ids = batch.column("topic_id")
            ids = ids if chosen is None else ids.filter(pa.array(chosen))
            offsets = _offsets(batch, LETTER_COLUMNS[2], chosen)
            for topic_id in pc.unique(ids).to_pylist():
                mine = pc.fill_null(pc.equal(ids, topic_id), False).to_numpy(zero_copy_only=False)
                if self.first:
                    self.letter_counts[(key[0], str(topic_id), key[1])] += int(mine.sum())
                self._topic_ids.setdefault(key, set()).add(str(topic_id))
                inside = self._in_range(key, offsets[mine], path)
                again = self.seen.add(key, inside, ("dead", str(topic_id)))
                self._tally("dead_letter_duplicate", key, again, path)
                self._place(key, inside)

    def finish(self, *, with_letters: bool) -> None:
        """Compare the counts with the ledger, and report what was tallied."""
        rows: Counter[Key] = Counter()
        for one in self._account.partitions:
            rows[(one.source.topic, one.source.partition)] += one.counts.rows
            source = one.source
            stored = self.letter_counts.get((source.topic, source.topic_id, source.partition), 0)
            if with_letters and stored != one.counts.dead:
                where = f"{source} (topic id {source.topic_id})"
                expected = f"{one.counts.dead} dead letters, by the ledger"
                self.findings.add(Finding("dead_letters", where, expected, f"{stored}"))
        for key, count in sorted(rows.items()):
            if self.row_counts.get(key, 0) != count:
                where, found = _name(key), f"{self.row_counts.get(key, 0)} rows"
                expected = f"{count} rows, by the ledger"
                self.findings.add(Finding("partition_rows", where, expected, found))
        expected_of = {
            "duplicate": "each offset once",
            "dead_letter_duplicate": "each dead letter once",
            "row_and_dead_letter": "a row or a dead letter, not both",
        }
        for (kind, key), tally in sorted(self._tallies.items()):
            covered = self._coverage.get(key)
            other = f"offsets of {covered}" if covered else "a partition of the ledger"
            expected = expected_of.get(kind, other)
            self.findings.add(Finding(kind, _name(key), expected, str(tally)))

    def _in_range(self, key: Key, offsets: Offsets, path: str) -> Offsets:
        covered = self._coverage.get(key)
        if covered is None:
            self._tally("coordinates", key, offsets, path)
            return offsets[:0]
        inside = covered.of(offsets) > 0
        if not inside.all():
            self._tally("range", key, offsets[~inside], path)
            offsets = offsets[inside]
        return offsets

    def _place(self, key: Key, offsets: Offsets) -> Offsets:
        """Put each offset into the first plane that lacks it; returns those without a place."""
        plane = 0
        homeless: list[Offsets] = []
        while len(offsets):
            room = self._coverage[key].of(offsets) > plane
            homeless.append(offsets[~room])
            offsets = self.seen.add(key, offsets[room], plane)
            plane += 1
        return np.concatenate(homeless) if homeless else offsets

    def _tally(self, kind: str, key: Key, offsets: Offsets, path: str) -> None:
        once = kind in ("range", "coordinates")
        if len(offsets) and (self.first or not once):
            self._tallies.setdefault((kind, key), _Tally()).take(offsets, path)

    def _by_partition(
        self, path: str, batch: pa.RecordBatch, columns: Sequence[str]
    ) -> Iterator[tuple[Key, Mask | None]]:
        topics, partitions, offsets = (batch.column(c) for c in columns[:3])
        nulls = max(c.null_count for c in (topics, partitions, offsets))
        if nulls and self.first:
            where, found = path, f"{nulls} rows without"
            self.findings.add(
                Finding("coordinates", where, "topic, partition and offset in each row", found)
            )
        if batch.num_rows == 0:
            return
        encoded = topics if pa.types.is_dictionary(topics.type) else topics.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        numbers = pc.fill_null(partitions.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        known = pc.is_valid(offsets).to_numpy(zero_copy_only=False)
        pairs = np.stack([codes, numbers])
        for code, number in np.unique(pairs, axis=1).T.tolist():
            if code < 0 or number < 0:
                continue
            chosen = (codes == code) & (numbers == number) & known
            yield (str(names[code]), number), (None if chosen.all() else chosen)


def read(
    reader: LogReader, files: Sequence[LiveFile], columns: Sequence[str], on_fault: OnFault
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The wanted columns of each file, batch by batch; faults are told and the file is left."""
    for one in files:
        path = table_path(one.path)
        try:
            with reader.files.open(path) as file:
                if file.size() != one.size_bytes:
                    on_fault(one.path, f"{one.size_bytes} bytes", f"{file.size()} bytes")
                parquet = pq.ParquetFile(file)
                if one.rows is not None and parquet.metadata.num_rows != one.rows:
                    found = f"{parquet.metadata.num_rows} rows, by its footer"
                    on_fault(one.path, f"{one.rows} rows, by the log", found)
                for batch in _batches(parquet, one, columns):
                    yield one.path, batch
        except (OSError, pa.ArrowException) as error:
            on_fault(one.path, "a readable Parquet file", str(error).split("\n", maxsplit=1)[0])


def _batches(
    parquet: pq.ParquetFile, one: LiveFile, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    stored = set(parquet.schema_arrow.names)
    wanted = [c for c in columns if c in stored]
    for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
        arrays = [
            _plain(batch.column(c))
            if c in stored
            else pa.array([one.values.get(c)] * batch.num_rows, pa.string())
            for c in columns
        ]
        yield pa.RecordBatch.from_arrays(arrays, list(columns))


def _plain(values: pa.Array) -> pa.Array:
    """Text as ``string``: other engines leave views and large strings, which lack kernels."""
    kind = values.type
    if pa.types.is_dictionary(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind):
        return values
    return values.cast(pa.string())


def live_files(files: pa.Table) -> list[LiveFile]:
    """The live files of a snapshot."""
    columns = (files.column(c).to_pylist() for c in ("path", "size", "num_records"))
    values = files.column("partition_values").to_pylist()
    return [
        LiveFile(path, size, rows, dict(pairs or ()))
        for path, size, rows, pairs in zip(*columns, values, strict=True)
    ]


def _offsets(batch: pa.RecordBatch, column: str, chosen: Mask | None) -> Offsets:
    values = batch.column(column).cast(pa.int64())
    if chosen is not None:
        values = values.filter(pa.array(chosen))
    result: Offsets = values.to_numpy(zero_copy_only=False)
    return result


def _name(key: Key) -> str:
    return f"{key[0]}[{key[1]}]"
