"""``erase``: rows that a condition holds for leave all tables of a pipeline, and what held them.

In this order, each step safe to do again: rows leave the tables that Kafka feeds; each derived
table takes that in, and loses what is left of them; then the tables beside it, the quarantine, the
dead letters and the samples of failing values. Last, the data files that still hold such rows are
deleted, with the older versions that have them. Who was killed under way is gone on with by the
same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from raylake import faults
from raylake.client.deletions import Deletions
from raylake.client.erased_files import remove_folders, without_values
from raylake.client.erased_letters import erase_letters
from raylake.client.erased_logs import begin_anew, clear, lost_with_the_log, mentions
from raylake.client.erased_samples import COLUMNS, QUALITY, Samples
from raylake.client.erasure_receipt import OfTable, Receipt, Receipts
from raylake.client.erasure_subjects import (
    LETTERS,
    QUARANTINE,
    Subject,
    columns_of,
    count,
    dead_letters,
    delete,
    subjects,
)
from raylake.client.quarantine import Service
from raylake.client.retention import refuse_refusing
from raylake.client.told_beside import store_what_is_told
from raylake.clock import Clock, SystemClock
from raylake.config import Loaded
from raylake.config.addresses import normalise_table_address
from raylake.errors import RayLakeError
from raylake.layers.build import definition
from raylake.layers.derived_table import DerivedTable
from raylake.layers.graph import Graph, graph_of
from raylake.layers.step import By
from raylake.maintenance.kept_state import kept_at
from raylake.storage.place import Place, place
from raylake.tables.cow_conditions import Judge
from raylake.tables.errors import ProgressMoved
from raylake.tables.holding_files import Holds, behind_vectors, holding_files
from raylake.tables.lifetimes import in_words, lost_versions
from raylake.tables.raw_search import RawSearch
from raylake.tables.vacuum import deleted

_MOVED_AT_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class EraseOrder:
    """What is to be erased, and how.

    Attributes:
        where: A condition on columns of the pipeline's tables: ``customer_id = 'x'``.
        dry_run: Only say what would leave.
        force: Also delete files of versions that readers and pins hold.
        say_text: The receipt has the condition's text instead of its hash alone.
        and_logs: The logs of the tables that rows leave begin anew: nothing of their older
            versions can be read any more.
    """

    where: str
    dry_run: bool = True
    force: bool = False
    say_text: bool = False
    and_logs: bool = False


def erase(
    loaded: Loaded, order: EraseOrder, by: Service | None = None, clock: Clock | None = None
) -> Receipt:
    """Erase rows from a pipeline's tables, and say what was done.

    Args:
        loaded: The pipeline file.
        order: What, and how.
        by: The cluster of tables that have an owner.
        clock: Time.

    Raises:
        BadExpression, UnknownColumn: The condition is none, or no table has its columns.
        Refused: A table of mode append would stop; nothing was changed.
        RayLakeError: Why it could not be ended; the same order goes on with it.
    """
    clock = clock or SystemClock()
    found = subjects(loaded.config, order.where)
    if not order.dry_run:
        # Rows that a step set aside and did not store yet may be the person's, too.
        store_what_is_told(loaded.config, clock)
        found = subjects(loaded.config, order.where)
    with (
        RawSearch(order.where, columns_of(found, order.where)) as search,
        Deletions(loaded.config, clock, by or Service()) as deletions,
    ):
        work = _Erasure(loaded, order, clock, search, deletions)
        work.survey(found)
        if order.dry_run:
            work.look(found)
        else:
            work.run(found)
        return work.receipt


class _Erasure:
    """One erasure under way."""

    def __init__(
        self, loaded: Loaded, order: EraseOrder, clock: Clock, search: RawSearch, by: Deletions
    ) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._order = order
        self._clock = clock
        self._search = search
        self._by = by
        self._graph: Graph = graph_of(loaded.config)
        self._receipts = Receipts(normalise_table_address(loaded.config.lake), clock)
        self.receipt = self._receipts.begin(
            loaded.config.pipeline, order.where, say_text=order.say_text
        )
        self.receipt.dry_run = order.dry_run

    def survey(self, found: Sequence[Subject]) -> None:
        """Count what is to leave; a count of an erasure that was cut off before stands."""
        for one in found:
            rows = count(one, self._search)
            self._of(one.name, one.path, rows, one.told)
            if rows and one.kind == "bronze":
                refuse_refusing(self._graph, one.name)
            if one.gap:
                self._left(f"{one.name}: {one.told}")
        letters = self._letters(dry_run=True)
        if letters:
            one = dead_letters(self._config)
            self._of(one.name, one.path, letters, one.told)
        if (samples := self._samples()) and (some := samples.count()):
            self._of(
                QUALITY, samples.path, 0, f"{some} results lose their samples of failing values"
            )

    def look(self, found: Sequence[Subject]) -> None:
        """Say which files would be deleted beside those that rows leave, and who is in the way."""
        for name, at, columns, holds in self._places(found):
            seen = holding_files(
                at, columns, holds, self._clock.now(), break_holds=self._order.force
            )
            of = self.receipt.tables[name]
            of.files_removed = sorted(map(self._told, seen.free))
            of.bytes_removed = sum(seen.free.values())
            of.versions_lost = in_words(lost_versions(at, seen.free))
            if seen.live:
                of.searched += f"; {len(seen.live)} live files have rows behind deletion vectors"
            if seen.holders:
                self._left(f"{name}: {seen.holders}")
        self._say_what_stays(found)
        if self._order.and_logs:
            for one in self._with_logs(found):
                self.receipt.tables[one.name].versions_lost = lost_with_the_log(one.path)

    def run(self, found: Sequence[Subject]) -> None:
        """Do it."""
        self._receipts.save(self.receipt)
        faults.reach("erase.begun", erasure=self.receipt.erasure_id)
        for one in found:
            self._of_table(one)
        self._letters(dry_run=False)
        faults.reach("erase.letters", erasure=self.receipt.erasure_id)
        self._blank_samples()
        for name, at, columns, holds in self._places(found):
            self._delete_files(name, at, columns, holds)
            # Bounds of columns that upkeep keeps; it computes them again.
            kept_at(place(self._receipts.lake), name).unlink(missing_ok=True)
        for one in found:
            if still := count(one, self._search):
                self._left(f"{one.name}: {still} rows came while it ran: give the order again")
        if still := self._letters(dry_run=True):
            self._left(f"{LETTERS}: {still} came while it ran: give the order again")
        if self._order.and_logs and not self.receipt.left:
            # Who was killed under way, or is told what is left, goes on with whole logs.
            self._clear_logs(found)
        self.receipt.complete = not self.receipt.left
        self._say_what_stays(found)
        faults.reach("erase.receipt", erasure=self.receipt.erasure_id)
        self._receipts.end(self.receipt)

    def _of_table(self, one: Subject) -> None:
        said = f"erasure {self.receipt.erasure_id}"
        if one.kind == "derived":
            self._digest(one)
        elif one.kind == QUARANTINE:
            store_what_is_told(self._config, self._clock)
        self._purge(one)
        delete(one, self._order.where, self._search, self._by, said)
        faults.reach("erase.deleted", erasure=self.receipt.erasure_id, table=one.name)

    def _purge(self, one: Subject) -> None:
        """Files whose rows of the person are behind deletion vectors are written anew."""
        if one.columns.names:
            with Judge() as judge:
                files = behind_vectors(place(one.path), one.columns, self._holds(one, judge))
            if files:
                self._by.purge(one.path, files)
                faults.reach("erase.purged", erasure=self.receipt.erasure_id, table=one.name)

    def _digest(self, one: Subject, idle_versions: int | None = None) -> None:
        """Let a derived table take in what its sources lost, before their files are deleted."""
        node = self._graph.node(one.name)
        by = By(self._by.tables_of(one.path), self._clock)
        of_file = definition(self._config, self._graph, node, self._clock)
        table = DerivedTable(replace(of_file, idle_versions=idle_versions), by)
        moved = 0
        while True:
            try:
                if table.advance(ending=True) is None:
                    return
            except ProgressMoved:
                moved += 1
                if moved > _MOVED_AT_MOST:
                    raise
            except RayLakeError as error:
                self._left(f"{one.name}: it did not take in what its source lost: {error.message}")
                return

    def _letters(self, *, dry_run: bool) -> int:
        found = erase_letters(
            self._loaded, self._search, self.receipt.erasure_id, self._clock, dry_run=dry_run
        )
        for one in found:
            if one.unread and dry_run:
                self._left(
                    f"{LETTERS} of {one.table}: {one.unread} are no JSON, and the condition asks "
                    "for no value to look for in them"
                )
            if one.letters and not one.known:
                self._left(f"{LETTERS} of {one.table}: {one.letters}; no such table is declared")
        return sum(one.letters for one in found if one.known)

    def _places(self, found: Sequence[Subject]) -> Iterator[tuple[str, Place, pa.Schema, Holds]]:
        """The folders that may have files with such rows: name, place, columns, and what tells."""
        with Judge() as judge:
            for one in found:
                if one.columns.names:
                    yield one.name, place(one.path), one.columns, self._holds(one, judge)
            if LETTERS in self.receipt.tables:
                one = dead_letters(self._config)
                yield one.name, place(one.path), one.columns, self._holds(one, judge)
        if QUALITY in self.receipt.tables and (samples := self._samples()):
            yield QUALITY, place(samples.path), COLUMNS, samples.holds

    def _samples(self) -> Samples | None:
        left = (name for name, of in self.receipt.tables.items() if of.rows)
        return Samples.of(self._config, self._search, left)

    def _blank_samples(self) -> None:
        store_what_is_told(self._config, self._clock)
        if (samples := self._samples()) and (some := samples.count()):
            self._of(
                QUALITY, samples.path, 0, f"{some} results lost their samples of failing values"
            )
            samples.blank()
            faults.reach("erase.samples", erasure=self.receipt.erasure_id)

    def _holds(self, one: Subject, judge: Judge) -> Holds:
        def holds(rows: pa.Table) -> bool:
            return bool(one.mask(rows, self._search, judge).any())

        return holds

    def _delete_files(self, name: str, at: Place, columns: pa.Schema, holds: Holds) -> None:
        force = self._order.force
        seen = holding_files(at, columns, holds, self._clock.now(), break_holds=force)
        of = self.receipt.tables[name]
        if seen.free:
            # Said first: of who is killed between, the list is whole.
            lost = in_words(lost_versions(at, seen.free))
            of.versions_lost = ", ".join(filter(None, (of.versions_lost, lost)))
            of.files_removed = sorted({*of.files_removed, *map(self._told, seen.free)})
            of.bytes_removed += sum(seen.free.values())
            self._receipts.save(self.receipt)
            faults.reach("erase.files", erasure=self.receipt.erasure_id, table=name)
            if failed := deleted(at, seen.free).failed:
                self._left(f"{name}: {self._told(failed)}")
            remove_folders(at, seen.free, self._search.names)
        if seen.held:
            self._left(
                f"{name}: {len(seen.held)} files of older versions are held ({seen.holders}): give "
                "the order again when they are not, or with --force"
            )
        elif force and seen.holders:
            of.searched += f"; {seen.holders}"
        for what, files in (
            ("live files got such rows behind deletion vectors: give the order again", seen.live),
            ("files that no commit names yet hold such rows, and are too young", seen.young),
            ("files could not be read", seen.unread),
        ):
            if files:
                self._left(f"{name}: {len(files)} {what}: {', '.join(map(self._told, files[:3]))}")

    def _with_logs(self, found: Sequence[Subject]) -> list[Subject]:
        """The tables that rows or files leave, or whose logs have the condition's values."""
        tables = self.receipt.tables
        letters = [dead_letters(self._config)] if LETTERS in tables else []
        return [
            one
            for one in (*found, *letters)
            if not self._search.by_words
            or (of := tables[one.name]).rows
            or of.files_removed
            or mentions(one.path, self._search)
        ]

    def _clear_logs(self, found: Sequence[Subject]) -> None:
        """Logs begin with a checkpoint that knows nothing of what left, once nobody needs more."""
        erasure_id = self.receipt.erasure_id
        begun = [(one, begin_anew(one, self._by, erasure_id)) for one in self._with_logs(found)]
        faults.reach("erase.checkpoints", erasure=erasure_id)
        for one in found:
            if one.kind == "derived":
                # Its hold on its source moves up to the checkpoint.
                self._digest(one, idle_versions=1)
        store_what_is_told(self._config, self._clock)
        for one, version in begun:
            of = self.receipt.tables[one.name]
            done = clear(self._config, one, version, break_holds=self._order.force)
            of.log_files_removed += done.files
            of.versions_lost = done.lost or of.versions_lost
            if done.held:
                self._left(f"{one.name}: its log is as it was: {done.held}: give the order again")

    def _say_what_stays(self, found: Sequence[Subject]) -> None:
        """What no erasure reaches: said, without the values."""
        letters = [dead_letters(self._config)] if LETTERS in self.receipt.tables else []
        for one in (*found, *letters):
            of = self.receipt.tables[one.name]
            of.log_files_left = mentions(one.path, self._search)
            if not self._search.by_words and not of.log_files_removed:
                of.searched += "; its log may have such values (the condition asks for none by =)"
            if of.log_files_left:
                of.searched += (
                    f"; {of.log_files_left} files of its log (bounds of columns, conditions, "
                    "samples) have the condition's values until the log's clean-up takes them"
                )

    def _of(self, name: str, path: str, rows: int, told: str) -> None:
        of = self.receipt.tables.setdefault(name, OfTable(name, path))
        of.rows, of.searched = max(of.rows, rows), told

    def _told(self, path: str) -> str:
        return without_values(path, self._search.names)

    def _left(self, what: str) -> None:
        if what not in self.receipt.left:
            self.receipt.left.append(what)
