"""A run of a pipeline in a notebook or a program: what ``lake.submit(…)`` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Group

from raylake.client.account import Account
from raylake.client.progress import Progress, Showing, progress_here
from raylake.client.run_logs import LogFilter, LogTail
from raylake.client.run_places import Look, RunPlace
from raylake.client.run_view import OVER, RunView
from raylake.client.runs import life_of, status_document
from raylake.client.shown import Listing
from raylake.client.submission import Kind
from raylake.client.verifying import report_by_status, report_of
from raylake.clock import Clock, Deadline, SystemClock
from raylake.config import Pipeline
from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError, Retryable, Terminal
from raylake.storage.place import Place
from raylake.telemetry.logs import log_folder

POLL_S: Final = 0.5
STATUS_S: Final = 2.0
"""A run renews its status document this often."""
DRAIN_S: Final = 90.0
_BAD: Final = ("failed", "dead", "interrupted")

Until = Literal["caught_up", "ended"]


class RunFailed(Terminal):
    """A run that was waited for did not end well."""

    code = "run_failed"


class WaitTimedOut(Retryable):
    """What was waited for did not come in time; the run goes on."""

    code = "wait_timed_out"


@dataclass(frozen=True, slots=True)
class RunName:
    """Which run it is.

    Attributes:
        lake: The lake's address.
        pipeline: The pipeline.
        run_id: The run; None: what the cluster's job is told by its id alone.
        status: Where its status document lies.
        kind: Ingestion, or the derived tables alone.
        submission_id: Ray's id, for a job.
    """

    lake: str
    pipeline: str
    run_id: str | None
    status: Place
    kind: Kind = "ingest"
    submission_id: str | None = None

    def is_told_by(self, document: Mapping[str, Any]) -> bool:
        """Whether a status document is this run's."""
        if self.run_id is not None:
            return bool(document.get("run_id") == self.run_id)
        return bool((document.get("job") or {}).get("submission_id") == self.submission_id)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a process of a run said.

    Attributes:
        time: ISO 8601; empty: not told.
        level: ``info``, ``warning`` …; empty: not told.
        process: Which one.
        message: What it said.
    """

    time: str
    level: str
    process: str
    message: str


class Run:
    """A run under way, or one that has ended; found again by ``lake.run(pipeline)``.

    It holds nothing: the run goes on when it, or the process that holds it, is gone.

    Args:
        name: Which run it is.
        place: Where it is.
        config: Its pipeline, where the file is known.
        continuous: Whether it goes on until it is told to stop.
        clock: Time.
    """

    def __init__(
        self,
        name: RunName,
        place: RunPlace,
        config: Pipeline | None = None,
        *,
        continuous: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.place = place
        self._config = config
        self._continuous = continuous
        self._clock = clock or SystemClock()

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.name.pipeline

    @property
    def run_id(self) -> str:
        """The run's id; Ray's, until the run has told its own."""
        return self.name.run_id or str(self.name.submission_id)

    @property
    def submission_id(self) -> str | None:
        """Ray's id of the job; None: it is none."""
        return self.name.submission_id

    def status(self) -> RunView:
        """How it stands: by its status document in the lake, and by where it runs.

        Raises:
            DependencyUnreachable: The cluster does not answer, or neither does the lake.
        """
        look = self.place.look()
        document = self._document(look)
        state, error = _state(look, document)
        at = document.get("at")
        age_s = None if at is None else max(0.0, self._clock.now() - float(at))
        run_id = str(document.get("run_id") or self.run_id)
        return RunView(self.pipeline, run_id, state, self.place.words, age_s, document, error)

    def wait(
        self,
        until: Until | None = None,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> RunView:
        """Wait; progress is shown in place. Ctrl-C ends the wait, and the run goes on.

        Args:
            until: ``ended``, or ``caught_up``: all is committed that the broker had when the wait
                began. None: ``caught_up`` for a run that goes on until it is stopped.
            timeout_s: At most so long, in seconds; None: as long as it takes.
            progress: Where it is shown; None: as fits a notebook, a terminal, or neither.

        Returns:
            How it stands then.

        Raises:
            RunFailed: It ended and not well; says why and what to do.
            WaitTimedOut: It did not come in time; the run goes on.
            DependencyUnreachable: As :meth:`status`.
        """
        waiting = _Waiting(self._until(until), timeout_s, self._clock)
        with Showing(progress or progress_here(self._clock)) as show:
            while True:
                view = self.status()
                show(view)
                if waiting.is_over(view):
                    return view
                self._clock.sleep(POLL_S)

    async def wait_async(
        self,
        until: Until | None = None,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> RunView:
        """As :meth:`wait`, and other tasks of the loop go on: ``await run.wait_async()``."""
        waiting = _Waiting(self._until(until), timeout_s, self._clock)
        with Showing(progress or progress_here(self._clock)) as show:
            while True:
                view = await asyncio.to_thread(self.status)
                show(view)
                if waiting.is_over(view):
                    return view
                await asyncio.sleep(POLL_S)

    def logs(
        self, follow: bool = False, lines: int = 200, level: str = "info"
    ) -> Listing[LogLine] | Iterator[LogLine]:
        """What its processes say; of a run whose logs are not on this machine, what its job prints.

        Args:
            follow: Go on until the run has ended, line by line.
            lines: Of what there is, at most so many of the last.
            level: The least level.
        """
        source = self._log_source(level)
        before = source.new()[-lines:]
        if not follow:
            names = ("time", "level", "process", "message")
            return Listing(f"logs of {self.pipeline}", before, names)
        return self._followed(before, source)

    def drain(self, timeout_s: float = DRAIN_S) -> RunView:
        """Let it commit what was fetched, release its tables and end; waits for that.

        Args:
            timeout_s: How long it may take, in seconds.

        Raises:
            RunFailed: It ended without draining.
            WaitTimedOut: It still drains.
            Refused: It cannot be reached from here, or is another user's.
        """
        if not self.status().ended:
            self.place.drain()
        return self._ended(timeout_s)

    def stop(self, timeout_s: float = DRAIN_S) -> RunView:
        """As :meth:`drain`, and a run that has not drained in time is cut off.

        Nothing is lost either way: what was not committed is read again by the next run.

        Raises:
            WaitTimedOut: It has not ended, cut off or not.
            Refused: As :meth:`drain`.
        """
        try:
            return self.drain(timeout_s)
        except WaitTimedOut:
            self.place.end()
        except RunFailed:
            return self.status()
        try:
            return self._ended(timeout_s)
        except RunFailed:
            return self.status()

    def verify(self, level: str = "log") -> Account:
        """Whether every offset is accounted for, also while it runs; reads only.

        Args:
            level: ``log``; ``data``: every row too; ``broker``: the cluster too; ``all``.

        Raises:
            ConfigError: There is no table yet, or the level needs the pipeline file.
            DependencyUnreachable: No broker answers.
        """
        if self._config is not None:
            return Account(report_of(self._config, level))
        return Account(report_by_status(status_document(self.name.status), level))

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.pipeline}: {self.place.words}>"

    def __rich__(self) -> Group:
        """How it stands, for a terminal."""
        return self.status().__rich__()

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    def _until(self, until: Until | None) -> Until:
        if until not in (None, "caught_up", "ended"):
            raise ConfigError(f"until={until!r} is none", hint="caught_up or ended")
        return until or ("caught_up" if self._continuous else "ended")

    def _ended(self, timeout_s: float) -> RunView:
        waiting = _Waiting("ended", timeout_s, self._clock)
        while not waiting.is_over(view := self.status()):
            self._clock.sleep(POLL_S)
        return view

    def _document(self, look: Look) -> Mapping[str, Any]:
        try:
            found = status_document(self.name.status)
        except (ConfigError, DependencyUnreachable, OSError):
            if look.alive is None:
                raise
            return {}
        return found if self.name.is_told_by(found) else {}

    def _log_source(self, level: str) -> _LogSource:
        folder = log_folder(self.name.lake, self.pipeline) / self.run_id
        return _LogSource(self.place, folder, level)

    def _followed(self, before: list[LogLine], source: _LogSource) -> Iterator[LogLine]:
        yield from before
        while True:
            over = self.status().ended
            yield from source.new()
            if over:
                return
            self._clock.sleep(POLL_S)


class _LogSource:
    """Lines of a run's log files where they are on this machine; of its job's output else."""

    def __init__(self, place: RunPlace, folder: Path, level: str) -> None:
        self._place = place
        self._tail = LogTail(folder, LogFilter(level))
        self._seen = 0

    def new(self) -> list[LogLine]:
        """Those since the last call."""
        if any(self._tail.folder.glob("*.jsonl*")):
            return [_line(one) for one in self._tail.new_lines()]
        whole = self._place.printed().splitlines()
        found, self._seen = whole[self._seen :], len(whole)
        return [LogLine("", "", "job", one) for one in found]


def _line(found: Mapping[str, Any]) -> LogLine:
    said = [str(found.get("message", "")), str(found.get("traceback") or "")]
    time, level, process = (str(found.get(name, "")) for name in ("time", "level", "process"))
    return LogLine(time, level, process, "\n".join(filter(None, said)))


class _Waiting:
    """Whether a wait is over."""

    def __init__(self, until: Until, timeout_s: float | None, clock: Clock) -> None:
        self._until = until
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else Deadline.after(timeout_s, clock)
        self._since_s: float | None = None

    def is_over(self, view: RunView) -> bool:
        """Whether what was waited for has come; raises as :meth:`Run.wait`."""
        if self._since_s is None:
            # By the run's own clock, which may differ from ours.
            at = view.document.get("at")
            self._since_s = 0.0 if at is None else float(at) + STATUS_S
        if view.ended:
            if view.state in _BAD:
                raise _failure(view)
            return True
        looked_s = float(view.document.get("ends_at") or 0.0)
        if self._until == "caught_up" and view.caught_up and looked_s >= self._since_s:
            return True
        if self._deadline is not None and self._deadline.expired():
            raise WaitTimedOut(
                f"not {self._until.replace('_', ' ')} within {self._timeout_s:.3g} s: {view.line}",
                hint="the run goes on; wait() again, or see logs()",
            )
        return False


def _failure(view: RunView) -> RayLakeError:
    error = view.error
    said = error.get("message") or {
        "dead": "its process is gone and left no word",
        "interrupted": "it was cut off before it had drained",
    }.get(view.state, "it said no reason")
    return RunFailed(
        f"run {view.run_id} of {view.pipeline!r} is {view.state}: {said}",
        hint=str(error.get("hint") or "nothing is lost: the next run goes on where the tables are"),
        reason=error.get("code", ""),
        state=view.state,
    )


def _state(look: Look, document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The run's state, and why it failed."""
    told = "done" if document.get("state") == "ended" else str(document.get("state") or "")
    error: Mapping[str, Any] = document.get("error") or {}
    if look.alive is None:
        life = life_of(document) if told != "done" else "ended"
        return ("dead" if life == "dead" else told), error
    if look.alive:
        # It has said its last word, and its process ends, or the run is started again.
        return ("draining" if told in OVER else told or "submitted"), {}
    if told in OVER:
        return told, error
    if look.ended_as in ("", "done", "stopped") and told:
        return "dead", {"message": f"it ended while it was {told}, without a word"}
    return look.ended_as or "dead", look.error
