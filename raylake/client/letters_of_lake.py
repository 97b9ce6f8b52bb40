"""``lake.dead_letters(…)``: the dead letters of a pipeline in a notebook or a program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from raylake.client.dead_letters import EVERY, LetterCount, Letters, Selection, counts
from raylake.client.replays import Replayed, replay
from raylake.client.runs import status_document
from raylake.client.shown import Listing
from raylake.clock import Clock, SystemClock
from raylake.config import Loaded, dead_letter_path, load
from raylake.delta.dead_letters import REPLAYED_SCHEMA
from raylake.errors import ConfigError
from raylake.storage.access import also_use_stores
from raylake.storage.place import Place

_COUNT_COLUMNS = ("table", "stage", "error_class", "count", "last_failed_at", "example")


class DeadLetters:
    """Dead letters of a pipeline; nothing is read until something is asked.

    Args:
        loaded: The pipeline file.
        selection: Which of them.
        clock: Time.
    """

    def __init__(
        self, loaded: Loaded, selection: Selection = EVERY, clock: Clock | None = None
    ) -> None:
        self._loaded = loaded
        self._selection = selection
        self._clock = clock or SystemClock()

    def where(self, condition: str) -> DeadLetters:
        """Only those for which a condition on their columns holds too.

        Args:
            condition: SQL, as ``stage = 'decode' and reason like '%amount%'``.
        """
        return self._with(where=(*self._selection.where, condition))

    def of(self, table: str) -> DeadLetters:
        """Only those that were meant for a table, ``bronze.orders``."""
        return self._with(table=table)

    def replayed(self) -> DeadLetters:
        """Those that have become rows, instead of those that have not; to be read."""
        return self._with(replayed=True)

    def read(self, limit: int = 1000) -> pa.Table:
        """The first letters, with all their columns.

        Raises:
            BadExpression, UnknownColumn: A condition is none on their columns.
        """
        found = [REPLAYED_SCHEMA.empty_table()]
        for part in self._letters().parts(REPLAYED_SCHEMA.names):
            found.append(part.slice(0, limit - sum(one.num_rows for one in found)))
            if sum(one.num_rows for one in found) >= limit:
                break
        return pa.concat_tables(found)

    def stats(self) -> Listing[LetterCount]:
        """How many, by table, stage and kind of fault; raises as :meth:`read`."""
        title = f"dead letters of {self._loaded.config.pipeline}"
        return Listing(title, counts(self._letters()), _COUNT_COLUMNS)

    def preview(self, fix: str | None = None) -> Replayed:
        """What a replay would make of them; nothing is changed. Takes and raises as it does."""
        return replay(self._loaded, self._open(), self._clock, fix=fix, dry_run=True)

    def replay(self, fix: str | None = None) -> Replayed:
        """Let them pass through today's pipeline again; those that can be are rows then.

        Args:
            fix: ``file.py:function``, which mends each first: it gets a
                :class:`~raylake.client.fixes.DeadLetter` and returns the new value as bytes, None
                to leave the letter alone, or a changed letter.

        Raises:
            RayLakeError: As :func:`raylake.client.replays.replay`.
        """
        return replay(self._loaded, self._open(), self._clock, fix=fix)

    def __repr__(self) -> str:
        return f"<dead letters of {self._loaded.config.pipeline}: {self._selection.to_dict()}>"

    def __rich__(self) -> Any:
        """The counts, for a terminal."""
        return self.stats().__rich__()

    def _repr_html_(self) -> str:
        return self.stats()._repr_html_()

    def _with(self, **changes: Any) -> DeadLetters:
        return DeadLetters(self._loaded, replace(self._selection, **changes), self._clock)

    def _open(self) -> Selection:
        if self._selection.replayed:
            raise ConfigError("these letters have become rows", hint="leave out .replayed()")
        return self._selection

    def _letters(self) -> Letters:
        config = self._loaded.config
        return Letters(dead_letter_path(config), config.pipeline, self._selection)


def dead_letters_of(lake: Place, pipeline: str | Path) -> DeadLetters:
    """The dead letters of a pipeline of a lake.

    Args:
        lake: The lake.
        pipeline: Its file; or its name, and then the file that its newest run was started with.

    Raises:
        ConfigError: There is no such file, or no run has left the name's status document here.
    """
    file = Path(pipeline)
    if not file.is_file() and file.suffix not in (".yaml", ".yml", ".json"):
        document = status_document(lake / "_raylake" / "status" / f"{pipeline}.json")
        file = Path(str(document.get("config", {}).get("path", "")))
        if not file.is_file():
            raise ConfigError(
                f"pipeline {str(pipeline)!r} was started with {file}, which is not here",
                hint="give the pipeline file itself: a replay goes by today's",
            )
    loaded = load(file)
    also_use_stores(loaded.config.stores)
    return DeadLetters(loaded)
