"""Further targets of dead letters, fed from the dead-letter table in its order (SPEC B3).

The table stays the account. A target gets what each of its commits added, at least once: the place
up to which it has everything is kept in the lake and written after the target has taken it. A
target that fails is tried again, by the rules of ``dead_letters``; nothing else waits for it but
the table's own log, whose entries stay until it has them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from raylake.delta.log_reader import Commit, LogReader
from raylake.errors import RayLakeError
from raylake.ingest.retry import Dependency
from raylake.storage.objects import StorePath
from raylake.storage.place import Place, make_folder, place, write_whole
from raylake.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

KIND = "dead_letters"

Values = Mapping[str, str | None]
WAITING = "raylake_dead_letters_waiting_files"
FORWARDED = "raylake_dead_letters_forwarded_total"


class LetterTarget(Protocol):
    """Takes files of dead letters; each may come again."""

    @property
    def name(self) -> str:
        """Names it, in its place's file and in metrics."""
        ...

    def take(self, table: Place, path: str, values: Values) -> int:
        """Take one file of the dead-letter table; returns how many letters.

        Args:
            table: The table's folder.
            path: Of the file in it, as the log has it.
            values: The letters' partition values: date, hour, pipeline, stage.

        Raises:
            RayLakeError, OSError: Not now, or not all of it.
        """
        ...


class Feed:
    """One target's way through the dead-letter table. Not thread-safe.

    Args:
        pipeline: The pipeline.
        table: The dead-letter table's folder.
        target: Takes its files.
        mark: The file that keeps how far it is.
        store: Its breaker and pace.
        metrics: Told what was forwarded, and how many files wait.
    """

    def __init__(
        self,
        pipeline: str,
        table: str,
        target: LetterTarget,
        mark: Place,
        store: Dependency,
        metrics: Metrics,
    ) -> None:
        self._table = place(table)
        self._target = target
        self._mark = mark
        self._store = store
        self._metrics = metrics
        self._labels = {"pipeline": pipeline, "target": target.name}
        self._done: int | None = None
        self._table_id = ""

    @property
    def held_up(self) -> bool:
        """Whether the next try has to wait."""
        return self._store.held_up

    @property
    def keep_from(self) -> int:
        """The first version whose log entry it has still to read; 0 while that is not known."""
        return 0 if self._done is None else self._done + 1

    def step(self) -> bool:
        """Forward what the next commits added; whether it has all there is."""
        if not self._store.allow():
            return False
        try:
            self._forward()
        except (RayLakeError, OSError) as error:
            self._store.failed(str(error))
            log.warning("dead letters wait for %s: %s", self._target.name, error)
            return False
        self._store.succeeded()
        return True

    def _forward(self) -> None:
        reader = LogReader(str(self._table))
        newest = reader.listing().latest
        if self._done is None:
            self.begin()
        first = max(self.keep_from, reader.first_retained())
        if first > self.keep_from:
            log.error(
                "versions %d to %d of %s left its log before %s had their dead letters",
                *(self.keep_from, first - 1, self._table, self._target.name),
            )
        commits = reader.commits(first, newest) if newest >= first else ()
        waiting = [(commit.version, _added(commit)) for commit in commits]
        left = sum(len(files) for _, files in waiting)
        for version, files in waiting:
            for path, values in files:
                self._metrics.set(WAITING, left, self._labels)
                self._take(path, values)
                left -= 1
            if files or version == newest:
                self._keep(version)
        self._metrics.set(WAITING, left, self._labels)

    def _take(self, path: str, values: Values) -> None:
        try:
            count = self._target.take(self._table, path, values)
        except FileNotFoundError:
            log.exception("%s: %s is gone, and is not forwarded", self._table, path)
        else:
            self._metrics.add(FORWARDED, count, self._labels)

    def begin(self) -> None:
        """Read how far it is; a target that is new begins with what comes from now on.

        Raises:
            OSError: That cannot be read or written now.
        """
        now = LogReader(str(self._table)).snapshot()
        self._table_id = now.metadata.id
        try:
            kept = json.loads(self._mark.read_bytes())
            # A table that was made anew begins with its first version.
            self._done = int(kept["version"]) if kept["table_id"] == self._table_id else -1
        except FileNotFoundError:
            self._keep(now.version)
        except (KeyError, TypeError, ValueError) as error:
            raise OSError(f"{self._mark}: says nothing: {error}") from error

    def _keep(self, version: int) -> None:
        make_folder(self._mark.parent)
        kept = {"format": 1, "table_id": self._table_id, "version": version}
        write_whole(self._mark, json.dumps(kept), sync=True)
        self._done = version


def _added(commit: Commit) -> Sequence[tuple[str, Values]]:
    """The files of new letters; those that a replay or a rewind wrote anew are not."""
    ours: Any = commit.raylake or {}
    if ours.get("kind") != KIND:
        return ()
    return [(str(add["path"]), dict(add["partitionValues"])) for add in commit.adds()]


class FileTarget:
    """Copies of the files, under the same names: what comes again replaces itself.

    Args:
        folder: Where they go; below it lie ``date=…/hour=…/pipeline=…/stage=…``.
    """

    name = "files"

    def __init__(self, folder: str) -> None:
        self._folder = place(folder)

    def take(self, table: Place, path: str, values: Values) -> int:  # noqa: ARG002
        """Copy one file whole; raises as :meth:`LetterTarget.take`."""
        below = unquote(path)
        data = (table / below).read_bytes()
        target = self._folder / below
        if isinstance(target, StorePath):
            target.put(data)
        else:
            _replace(Path(str(target)), data)
        return rows_of(data)


def _replace(target: Path, data: bytes) -> None:
    make_folder(target.parent)
    draft = target.with_name(f".{target.name}")
    draft.write_bytes(data)
    draft.replace(target)


def rows_of(data: bytes) -> int:
    """The rows of a Parquet file."""
    return int(pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows)
