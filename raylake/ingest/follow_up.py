"""Dead letters that follow their data commits into the dead-letter table (I5)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from raylake import faults
from raylake.delta.pending import DeadLetterCommit, PendingDeadLetters
from raylake.errors import OutcomeUnknown, Retryable
from raylake.ingest.ports import DeadLetterPort
from raylake.ingest.retry import Dependency
from raylake.ingest.unit import DataFile

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PENDING_COMMITS = 50
MARK_EVERY_VERSIONS = 100


class FollowUp:
    """What a table's log names for the dead-letter table and is not stored there yet.

    The position that the dead-letter table keeps moves with each addition, and without files each
    :data:`MARK_EVERY_VERSIONS` data versions, so that a redo never needs log files that were
    cleaned up. Not thread-safe, but for ``len``.

    Args:
        table_id: The data table.
        queue: The dead-letter queue.
        store: Its breaker and pace.
    """

    def __init__(self, table_id: str, queue: DeadLetterPort, store: Dependency) -> None:
        self._table_id = table_id
        self._queue = queue
        self._store = store
        self._waiting: deque[DeadLetterCommit] = deque()
        self._stored: int | None = None
        self._newest = -1
        self._in_doubt = False

    def __len__(self) -> int:
        waiting = list(self._waiting)
        return sum(bool(commit.files or commit.withdrawal) for commit in waiting)

    @property
    def keep_from(self) -> int:
        """The first version whose log file a redo would read; 0 while that is not known."""
        return 0 if self._stored is None else self._stored + 1

    @property
    def blocked(self) -> bool:
        """Whether so much waits that nothing more may be committed."""
        return len(self) >= MAX_PENDING_COMMITS

    @property
    def hindered(self) -> bool:
        """Whether the next try has to wait."""
        return self._store.held_up or not self._queue.ready()

    @property
    def done(self) -> bool:
        """Whether nothing waits, empty marks included."""
        return not self._waiting

    def begin(self, stored: int, pending: PendingDeadLetters) -> None:
        """Begin with what an earlier owner left undone.

        Args:
            stored: The data version up to which the dead-letter table has everything; -1 for none.
            pending: What the log names after it.
        """
        self._stored = stored
        self._found(pending)

    def landed(self, version: int, files: Sequence[DataFile]) -> None:
        """A data commit landed that names these files; none for most."""
        if self._in_doubt:
            return
        marked = self._waiting[-1].version if self._waiting else self._stored
        if files or version - (-1 if marked is None else marked) >= MARK_EVERY_VERSIONS:
            self._waiting.append(DeadLetterCommit(version, tuple(files)))
        self._newest = max(self._newest, version)

    def doubt(self) -> None:
        """A commit failed and may have landed: from now on only the log tells (I4)."""
        self._in_doubt = True

    def settle(self, read: Callable[[int], PendingDeadLetters]) -> None:
        """After a commit whose outcome is known: read what those in doubt named.

        Args:
            read: What the log names after a version.

        Raises:
            LogDamaged: The log lacks what is asked for.
        """
        if self._in_doubt:
            try:
                self._found(read(self._newest))
            except OSError as error:
                log.warning("the log cannot be read for dead letters: %s", error)
            else:
                self._in_doubt = False

    def after(self, commit: Callable[[], T], read: Callable[[int], PendingDeadLetters]) -> T:
        """Make a commit whose letters only the log tells, and look there."""
        self.doubt()
        result = commit()
        self.settle(read)
        return result

    def push(self) -> None:
        """Hand over what waits, in order, as far as the queue takes it; its start is no fault."""
        while self._waiting and self._queue.ready() and self._store.allow():
            head = self._waiting[0]
            faults.reach("owner.before_dead_letters", version=head.version)
            try:
                if head.withdrawal is None:
                    self._queue.add(self._table_id, head.version, head.files)
                else:
                    self._queue.withdraw(self._table_id, head.version, head.withdrawal)
            except (Retryable, OutcomeUnknown) as error:
                self._store.failed(error.message)
                log.warning("dead letters of version %d wait: %s", head.version, error.message)
                return
            self._store.succeeded()
            self._stored = head.version
            self._waiting.popleft()
            faults.reach("owner.after_dead_letters", version=head.version)

    def _found(self, pending: PendingDeadLetters) -> None:
        self._waiting.extend(pending.commits)
        self._newest = max(self._newest, pending.newest)
