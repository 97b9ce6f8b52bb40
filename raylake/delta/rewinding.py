"""What a rewind takes back: rows and dead letters from an offset on, and their counts (I12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from raylake.delta import log_files
from raylake.delta.cutting import Cut, find_cuts
from raylake.delta.ledger import app_id
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.moves import States, state_of
from raylake.delta.offset_tally import Tally
from raylake.delta.others_told import Told, others_told
from raylake.delta.pending import Withdrawal
from raylake.delta.verify_data import ROW_COLUMNS, live_files
from raylake.delta.withdrawing import find_letters, is_behind
from raylake.errors import Refused
from raylake.ingest.unit import Counts, PartitionState, SourcePartition
from raylake.storage.place import place


@dataclass(frozen=True, slots=True)
class Rewind:
    """Read offsets again that a table has accounted for.

    Attributes:
        pipeline: Of which pipeline.
        ends: The next offset to read of each partition.
        replace: Take away what the table made of them; without it there must be nothing.
        letters: The dead-letter table's folder; None when the pipeline has none.
        table: The table's name in it.
    """

    pipeline: str
    ends: Mapping[SourcePartition, int]
    replace: bool
    letters: str | None = None
    table: str = ""

    @property
    def withdrawal(self) -> Withdrawal:
        """The dead letters that leave with it."""
        return Withdrawal(self.pipeline, self.table, self.ends)


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What a rewind takes back of one partition.

    Attributes:
        was: Its state before.
        now: Its state afterwards.
        counts: What leaves the account.
        rows_found: The rows that leave the table; other than ``counts.rows`` where somebody else
            has taken some of them already.
        letters_found: The same of the dead letters.
    """

    was: PartitionState
    now: PartitionState
    counts: Counts
    rows_found: int
    letters_found: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a rewind would do.

    Attributes:
        version: The table's version that was looked at.
        partitions: By partition.
        cuts: The table's files with rows that leave.
        configuration: The table's properties.
    """

    version: int
    partitions: Mapping[SourcePartition, TakenBack]
    cuts: tuple[Cut, ...]
    configuration: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that leave the account."""
        return sum(one.counts.rows for one in self.partitions.values())

    @property
    def dead(self) -> int:
        """Dead letters that leave the account."""
        return sum(one.counts.dead for one in self.partitions.values())

    @property
    def letters_found(self) -> int:
        """Dead letters that leave the dead-letter table."""
        return sum(one.letters_found for one in self.partitions.values())


def survey(order: Rewind, states: States, reader: LogReader) -> Survey:
    """Find out what a rewind takes back; reads the coordinates of every row, changes nothing.

    Args:
        order: The order.
        states: Every admitted partition of the table.
        reader: The table's log.

    Raises:
        ConfigError: A partition is not admitted.
        Refused: A partition stands before the offset, there are rows or dead letters and
            ``replace`` was not said, or what leaves cannot be told exactly.
        LogDamaged: A file is missing, or is not what the log says.
    """
    snapshot = reader.snapshot()
    _check(order, states, reader.path)
    _refuse_moved(order, states, snapshot, reader.path)
    _refuse_pending(order, states, snapshot, reader.path)
    rows = Tally(order.ends)
    cuts = tuple(find_cuts(reader, live_files(snapshot.files), ROW_COLUMNS, rows.doomed))
    letters = find_letters(order.letters, order.withdrawal).tally
    told = others_told(reader, snapshot.version, order.ends)
    partitions = {
        source: _taken_back(source, order, states[source], (rows, letters), told[source])
        for source in sorted(order.ends)
    }
    found = Survey(snapshot.version, partitions, cuts, snapshot.metadata.configuration)
    many = found.rows + found.dead
    if many and not order.replace:
        raise Refused(
            f"{reader.path}: {many} rows and dead letters from these offsets on are in the tables; "
            "reading them again would double them",
            hint="--replace takes them away; --dry-run shows what leaves",
            rows=found.rows,
            dead=found.dead,
        )
    return found


def _check(order: Rewind, states: States, where: str) -> None:
    for source, end in sorted(order.ends.items()):
        state = state_of(source, states, where)
        if end >= state.next:
            raise Refused(
                f"{where}: {source} stands at {state.next}, {end} does not lie before it",
                hint="`raylake skip` moves forward",
                topic=source.topic,
                partition=source.partition,
                next=state.next,
                asked=end,
            )
        again = [s for s in states if s != source and s.topic == source.topic]
        if any(s.partition == source.partition for s in again):
            raise Refused(
                f"{where}: topic {source.topic!r} was created again, and rows of both lie in the "
                "table: which of them an offset belongs to cannot be told",
                hint="leave this table and read the topic into another one",
                topic=source.topic,
            )


def _refuse_moved(order: Rewind, states: States, snapshot: LogSnapshot, where: str) -> None:
    """What is looked at must be what the states are of."""
    for source in order.ends:
        stored = snapshot.txns.get(app_id(order.pipeline, source, "next"))
        if stored != states[source].next:
            raise Refused(
                f"{where}: {source} moved from {states[source].next} to {stored} meanwhile",
                hint="has a run been started? Stop it, then give the order again",
                topic=source.topic,
                partition=source.partition,
            )


def _refuse_pending(order: Rewind, states: States, snapshot: LogSnapshot, where: str) -> None:
    """What the data table's commits ask of the dead-letter table comes first (I5)."""
    there = order.letters is not None and bool(log_files.commit_versions(place(order.letters)))
    dead = any(states[source].totals.dead for source in order.ends)
    if (there or dead) and is_behind(order.letters, where, snapshot.metadata.id):
        raise Refused(
            f"{where}: dead letters of this table are not in the dead-letter table yet, or an "
            "earlier rewind's have not left it",
            hint="`raylake run FILE --available-now` does it first",
        )


def _taken_back(
    source: SourcePartition,
    order: Rewind,
    state: PartitionState,
    tallies: tuple[Tally, Tally],
    told: Told,
) -> TakenBack:
    key, end = (source.topic, source.partition), order.ends[source]
    rows, letters = tallies
    origin = min(state.origin, end)
    totals = state.totals
    kept_rows, kept_dead = rows.kept[key], letters.kept[key]
    here = Counts(kept_rows + rows.taken[key], kept_dead + letters.taken[key])
    others = max(end, state.origin) - state.origin - kept_rows - kept_dead
    kept = _others(source, state, end, (here, others), told)
    now = replace(
        state, origin=origin, next=end, totals=replace(kept, rows=kept_rows, dead=kept_dead)
    )
    taken = Counts(
        totals.rows - kept_rows,
        totals.dead - kept_dead,
        totals.absent - kept.absent,
        totals.lost - kept.lost,
        totals.dropped - kept.dropped,
    )
    return TakenBack(state, now, taken, rows.taken[key], letters.taken[key])


def _others(
    source: SourcePartition,
    state: PartitionState,
    end: int,
    found: tuple[Counts, int],
    told: Told,
) -> Counts:
    """The absent, lost and dropped offsets before the end, which stay.

    Args:
        source: The partition.
        state: Its account.
        end: Where it goes back to.
        found: The rows and dead letters in the tables, and how many offsets before the end have
            neither.
        told: What the commits say.
    """
    here, others = found
    totals = state.totals
    whole = (here.rows, here.dead) == (totals.rows, totals.dead)
    if end <= state.origin:
        # All others leave, whatever has become of the rows.
        kept = None if others else Counts()
    elif told.all is not None:
        # What the commits say is held against the rows that stay, also where the sums are right.
        kept = _told_kept(totals, others, told.all)
    elif whole and told.ingested is not None:
        kept = _told_kept(totals, others, _with_deleted(totals, others, told.ingested))
        kept = kept or _others_kept(source, totals, others)
    else:
        kept = _others_kept(source, totals, others) if whole else None
    if kept is None:
        raise Refused(
            f"{source}: the tables hold {here.rows} rows and {here.dead} dead letters, and neither "
            f"for {others} offsets before {end}; the ledger counts {totals.rows} and {totals.dead}",
            hint="`raylake verify --level data` says more; an offset before the damage at which a "
            "commit begins, and on both sides of which no delete took rows, can be gone back to, "
            f"and {state.origin}, the first of all",
        )
    return kept


def _told_kept(totals: Counts, kept: int, told: Counts) -> Counts | None:
    """The absent, lost and dropped offsets that stay, by what the commits say that leaves.

    None where it does not fill what rows and letters leave open.
    """
    absent, lost = totals.absent - told.absent, totals.lost - told.lost
    left = Counts(absent=absent, lost=lost, dropped=totals.dropped - told.dropped)
    return left if left.total == kept and min(absent, lost, left.dropped) >= 0 else None


def _with_deleted(totals: Counts, kept: int, told: Counts) -> Counts:
    """What leaves, with deleted rows of which the commits do not say on which side they were.

    Where the tables hold what the ledger counts, they are what nothing else accounts for.
    """
    deleted = totals.absent + totals.lost + totals.dropped - told.total - kept
    return replace(told, dropped=told.dropped + max(0, deleted))


def _others_kept(source: SourcePartition, totals: Counts, kept: int) -> Counts:
    """How many of them stay, where the commits don't say it."""
    others = {"absent": totals.absent, "lost": totals.lost, "dropped": totals.dropped}
    if kept == sum(others.values()):
        return Counts(**others)
    if kept == 0:
        return Counts()
    nonzero = [name for name, count in others.items() if count]
    if len(nonzero) == 1 and 0 < kept < others[nonzero[0]]:
        return Counts(**{nonzero[0]: kept})
    raise Refused(
        f"{source}: which of the offsets without a row were absent, lost or dropped cannot be told "
        "any more from there on",
        hint="choose another offset: the first one of a commit, or one that the retained commits "
        "reach back to",
    )
