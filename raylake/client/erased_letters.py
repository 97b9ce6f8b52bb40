"""Dead letters whose bytes are erased: the offsets stay dead ones, the content is gone.

It is a replay that makes no rows (docs/adr/0040): the data table's commit names what the letters
are from now on, and the dead-letter table follows, whoever owns either.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raylake.client.dead_letters import Letters, Selection
from raylake.client.replay_tables import ReplayTable, open_table, plan_of
from raylake.clock import Clock
from raylake.config import Loaded, dead_letter_path
from raylake.delta.dead_letters import DEAD_LETTER_PARTITION_BY, REPLAYED_SCHEMA, STATS_COLUMNS
from raylake.delta.files import WriteOptions, write_data_files
from raylake.delta.pending import REPLAYED
from raylake.delta.replaying import Replay
from raylake.delta.tables_there import is_table
from raylake.delta.verify_letters import ERASED
from raylake.errors import ReplayOvertaken
from raylake.ingest.replays import new_replay_id
from raylake.tables.raw_search import RawSearch

TRIES = 4
_CONTENT = ("key", "value", "headers")


@dataclass(frozen=True, slots=True)
class ErasedLetters:
    """Dead letters of one table.

    Attributes:
        table: The data table that they were meant for.
        letters: How many hold the condition, those that have become rows since among them.
        as_words: How many of those are no JSON, and hold its values as words.
        unread: How many more are no JSON, and could not be searched.
        known: Whether the pipeline file has the table; letters of others are left.
    """

    table: str
    letters: int = 0
    as_words: int = 0
    unread: int = 0
    known: bool = True


def erase_letters(
    loaded: Loaded, search: RawSearch, erasure_id: str, clock: Clock, *, dry_run: bool
) -> list[ErasedLetters]:
    """Blank the dead letters that hold a condition; or only count them.

    Args:
        loaded: The pipeline file.
        search: Looks for the condition in their values.
        erasure_id: What the commit says of it.
        clock: Time.
        dry_run: Only count.

    Raises:
        RayLakeError: Why it was not done; tables before it were.
    """
    path = dead_letter_path(loaded.config)
    if not is_table(path):
        return []
    names: dict[str, set[str]] = {}
    for part in _parts(path, loaded.config.pipeline, "", ("table", "topic")):
        for one in part.group_by(["table", "topic"]).aggregate([]).to_pylist():
            names.setdefault(str(one["table"]), set()).add(str(one["topic"]))
    found = []
    for name, topics in sorted(names.items()):
        plan = plan_of(loaded.config, name, sorted(topics))
        if dry_run or plan is None or not is_table(plan.path):
            said, _ = _chosen(path, loaded.config.pipeline, name, search)
            known = plan is not None and is_table(plan.path)
            found.append(ErasedLetters(name, said.letters, said.as_words, said.unread, known=known))
            continue
        table = open_table(loaded, plan, clock, dry_run=False)
        found.append(_of_table(table, path, search, erasure_id))
    return found


def _of_table(table: ReplayTable, path: str, search: RawSearch, erasure_id: str) -> ErasedLetters:
    for left in reversed(range(TRIES)):
        table.settle()
        view = table.view()
        stored = Letters(path, table.pipeline).stored_version(view.table_id)
        said, chosen = _chosen(path, table.pipeline, table.name, search)
        if not chosen:
            return said
        options = WriteOptions(table.durability, stats_columns=STATS_COLUMNS)
        blank = _blank(
            pa.concat_tables(chosen), dt.datetime.fromtimestamp(table.clock.now(), dt.UTC)
        )
        files = write_data_files(path, blank, REPLAYED_SCHEMA, DEAD_LETTER_PARTITION_BY, options)
        order = Replay(
            new_replay_id(),
            table.pipeline,
            table.name,
            stored,
            view.fingerprint,
            {},
            (),
            tuple(files),
            {"erasure": erasure_id},
        )
        try:
            version = table.commit(order)
        except ReplayOvertaken:
            if not left:
                raise
            continue
        table.mark(version)
        return said
    raise AssertionError("unreachable")  # pragma: no cover


def _chosen(
    path: str, pipeline: str, name: str, search: RawSearch
) -> tuple[ErasedLetters, list[pa.Table]]:
    chosen, words, unread = [], 0, 0
    for part in _parts(path, pipeline, name, tuple(REPLAYED_SCHEMA.names)):
        found = search.search(part["value"].to_pylist())
        words, unread = words + found.as_words, unread + found.unread
        if found.mask.any():
            chosen.append(part.filter(pa.array(found.mask)))
    count = sum(one.num_rows for one in chosen)
    return ErasedLetters(name, count, words, unread), chosen


def _parts(path: str, pipeline: str, name: str, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    for replayed in (False, True):
        yield from Letters(path, pipeline, Selection(table=name, replayed=replayed)).parts(columns)


def _blank(letters: pa.Table, now: dt.datetime) -> pa.Table:
    """The letters without what they held; coordinates and times stay."""
    count = letters.num_rows
    became = pc.equal(letters["stage"], REPLAYED)
    columns = {name: letters[name] for name in letters.schema.names}
    for name in _CONTENT:
        columns[name] = pa.nulls(count, REPLAYED_SCHEMA.field(name).type)
    columns["reason"] = pa.repeat(pa.scalar(f"erased at {now.isoformat()}"), count)
    columns["error_class"] = pa.repeat(pa.scalar("erased"), count)
    columns["failed_stage"] = pc.if_else(became, letters["failed_stage"], letters["stage"])
    columns["stage"] = pc.if_else(became, letters["stage"], pa.scalar(ERASED))
    return pa.table([columns[name] for name in REPLAYED_SCHEMA.names], schema=REPLAYED_SCHEMA)
