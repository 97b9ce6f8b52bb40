"""A bronze table as a replay meets it: its columns, and who commits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
from deltalake import Schema

from raylake.client.orders import give_order
from raylake.client.quiet_tables import newest_run
from raylake.client.settled_letters import settle_letters
from raylake.client.stand_in import stand_in
from raylake.clock import Clock, Deadline
from raylake.codecs import merge_schema
from raylake.config import Loaded, dead_letter_path
from raylake.config.addresses import table_path
from raylake.config.models import Pipeline
from raylake.delta.dead_letters import app_of
from raylake.delta.ledger import states_of
from raylake.delta.log_reader import LogReader
from raylake.delta.metadata import last_metadata
from raylake.delta.owned_table import OwnedTable
from raylake.delta.replaying import Replay, landed_version
from raylake.delta.schema import arrow_schema, delta_schema, fingerprint
from raylake.delta.spec import Durability
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError, RayLakeError, Refused, ReplayOvertaken
from raylake.ingest import replays
from raylake.ingest.build_consumer import build_maker
from raylake.ingest.fitting import Columns
from raylake.ingest.plan import RunPlan, TablePlan, new_run_id
from raylake.ingest.ports import TableView
from raylake.layers.bronze_maker import BronzeMaker
from raylake.storage.place import Place, place

ORDER_TIMEOUT_S: Final = 120.0
MARKED_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class ReplayTable:
    """One table.

    Attributes:
        loaded: The pipeline file.
        plan: The table.
        maker: What makes rows of records, by today's file.
        clock: Time.
        runs: Whether a run of the pipeline owns it, which takes orders through the lake.
        dry_run: Nothing may be changed.
    """

    loaded: Loaded
    plan: TablePlan
    maker: BronzeMaker
    clock: Clock
    runs: bool
    dry_run: bool

    @property
    def name(self) -> str:
        """``bronze.orders``."""
        return self.plan.name

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.loaded.config.pipeline

    @property
    def root(self) -> Place:
        """Its folder."""
        return place(self.plan.path)

    @property
    def letters(self) -> str:
        """The dead-letter table's folder."""
        return dead_letter_path(self.loaded.config)

    @property
    def durability(self) -> Durability:
        """The pipeline's."""
        return self.loaded.config.ingest.durability

    def view(self) -> TableView:
        """The table as its log has it."""
        found = LogReader(self.plan.path).snapshot().metadata
        schema = arrow_schema(Schema.from_json(found.schema_json))
        last = last_metadata(self.root) or {}
        return TableView(found.id, schema, fingerprint(schema), last.get("watermark_ms"))

    def columns(self) -> Columns:
        """Its columns, and how it gets more."""
        return _Imagined(self) if self.dry_run else _Real(self)

    def settle(self) -> None:
        """Finish what an earlier replay or rewind left; a run does that itself."""
        if not self.runs and not self.dry_run:
            settle_letters(self.loaded.config, self.root, self.letters, self.clock)

    def commit(self, order: Replay) -> int:
        """Commit; returns the version.

        Raises:
            ReplayOvertaken: Look at the letters again; nothing was changed.
            RayLakeError: Why it was not done, or may not have been.
        """
        try:
            return self._ordered(order) if self.runs else self._in_its_place(order)
        except ReplayOvertaken:
            raise
        except RayLakeError:
            # It may be in the log although whoever did it could not say so.
            done = landed_version(self.root, order.replay_id, order.stored)
            if done is None:
                raise
            return done

    def mark(self, version: int) -> tuple[str, ...]:
        """Let the dead-letter table follow; what could not be finished, a sentence each."""
        try:
            if not self.runs:
                settle_letters(self.loaded.config, self.root, self.letters, self.clock)
            elif not self._marked(version):
                return ("the dead letters are marked by the run, which has not done it yet",)
        except (RayLakeError, OSError) as error:
            return (f"the dead letters are marked by the next run or replay: {error}",)
        return ()

    def _ordered(self, order: Replay) -> int:
        status_file = RunPlan(self.loaded.config, "", "", "").status_file
        left = replays.leave(status_file, order)
        try:
            arguments = {"replay_id": order.replay_id}
            said = give_order(status_file, "replay.commit", arguments, self.clock, ORDER_TIMEOUT_S)
        finally:
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        return int(said["version"])

    def _in_its_place(self, order: Replay) -> int:
        return self.owned(lambda table: table.replay(order))

    def owned(self, work: Callable[[OwnedTable], int]) -> int:
        """Do something as the table's owner, while the pipeline does not run."""
        table = stand_in(self.plan.path, new_run_id(), clock=self.clock, durability=self.durability)
        try:
            done = work(table)
        finally:
            # That it cannot be left changes nothing of what was done: the next owner waits.
            with contextlib.suppress(RayLakeError, OSError):
                table.release()
        return done

    def _marked(self, version: int) -> bool:
        app = app_of(LogReader(self.plan.path).snapshot().metadata.id)
        deadline = Deadline.after(MARKED_TIMEOUT_S, self.clock)
        while LogReader(self.letters).snapshot().txns.get(app, -1) < version:
            if deadline.expired():
                return False
            self.clock.sleep(_POLL_S)
        return True


class _Imagined:
    """Columns as they would be."""

    def __init__(self, table: ReplayTable) -> None:
        self._view = table.view()

    def view(self) -> TableView:
        return self._view

    def evolve(self, additions: pa.Schema) -> TableView:
        schema = merge_schema(self._view.schema, additions)
        self._view = replace(self._view, schema=schema, fingerprint=fingerprint(schema))
        return self._view


class _Real:
    """Columns that the table's owner adds."""

    def __init__(self, table: ReplayTable) -> None:
        self._table = table

    def view(self) -> TableView:
        return self._table.view()

    def evolve(self, additions: pa.Schema) -> TableView:
        table = self._table
        if table.runs:
            status_file = RunPlan(table.loaded.config, "", "", "").status_file
            arguments = {"table": table.name, "schema": delta_schema(additions).to_json()}
            give_order(status_file, "replay.columns", arguments, table.clock, ORDER_TIMEOUT_S)
        else:
            table.owned(lambda one: len(one.evolve(additions)))
        return table.view()


def open_table(loaded: Loaded, plan: TablePlan, clock: Clock, *, dry_run: bool) -> ReplayTable:
    """A table that letters go back to.

    Raises:
        ConfigError: It is not there.
        Refused: It belongs to another pipeline.
    """
    if not is_table(plan.path):
        raise ConfigError(
            f"{plan.name}: there is no table at {plan.path}, and its dead letters are of one",
            hint="is `lake` the right folder? Was the table taken away?",
        )
    config = loaded.config
    others = {name for name, _ in states_of(LogReader(plan.path).snapshot().txns)}
    if others - {config.pipeline}:
        raise Refused(
            f"{plan.name}: the table at {plan.path} belongs to pipeline {min(others)!r}, not to "
            f"{config.pipeline!r}"
        )
    run = newest_run(config, clock)
    runs = run is not None and run.life in ("alive", "elsewhere")
    maker = build_maker(RunPlan(config, loaded.sha256, str(loaded.path), "replay"), plan, clock)
    return ReplayTable(loaded, plan, maker, clock, runs, dry_run)


def plan_of(config: Pipeline, name: str, topics: Sequence[str]) -> TablePlan | None:
    """The table of some dead letters by today's file; None where that has no such table.

    Args:
        config: The pipeline file.
        name: The table's name as the letters have it.
        topics: Their topics, of which a fan-out makes the name.
    """
    for key, section in config.bronze.items():
        for topic in topics if section.fans_out else (None,):
            if f"bronze.{section.target_name(key, topic)}" == name:
                path = table_path(config, f"bronze.{key}", topic)
                return TablePlan(name, path, section, ())
    return None
