"""Metrics that are sent somewhere at an interval and once more when a run ends.

A place that is away costs a run nothing: each is served by a thread of its own, and what it says is
a trouble for the run's status.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from raylake.clock import Clock
from raylake.errors import AlreadyRunning, Fenced, RayLakeError

log = logging.getLogger(__name__)


def blotted(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets: what a place answers may repeat what it was sent."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


class PushTarget(Protocol):
    """A place that metrics are sent to."""

    @property
    def name(self) -> str:
        """As in the section ``metrics`` of the pipeline file."""
        ...

    @property
    def interval_s(self) -> float:
        """Between two pushes."""
        ...

    @property
    def timeout_s(self) -> float:
        """How long it may take to answer."""
        ...

    def push(self) -> None:
        """Send what there is now.

        Raises:
            RayLakeError: It did not arrive; nothing is lost that the next push could not send.
        """
        ...


class Pusher:
    """Sends to one place, from :meth:`start` to :meth:`close`.

    Args:
        target: The place.
        clock: Says when a push arrived; the interval is that of the machine.
    """

    def __init__(self, target: PushTarget, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._ending = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pushed = self._failed = 0
        self._last_at_s: float | None = None
        self._error = ""
        self._trouble: RayLakeError | None = None

    def start(self) -> None:
        """Begin; the first push is one interval away. No effect when it has begun."""
        if self._thread is None:
            name = f"push-{self._target.name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def push(self) -> None:
        """Send now; what goes wrong is kept for :meth:`trouble`."""
        with self._one_at_a_time:
            try:
                self._target.push()
            except RayLakeError as error:
                self._failed += 1
                self._error, self._trouble = error.message, error
                log.warning("%s: %s", self._target.name, error.message)
                return
            self._pushed += 1
            self._last_at_s = self._clock.now()
            self._error = ""

    def close(self, *, last: bool) -> None:
        """Send no more, but for one last time; waits little longer than a push may take.

        Args:
            last: Whether there is a last push: not where the place shows another run by now.
        """
        self._ending.set()
        patience_s = 1.5 * self._target.timeout_s
        if last:
            # Beside: a name that nobody resolves keeps a thread longer than any timeout.
            sending = threading.Thread(target=self.push, name="last-push", daemon=True)
            sending.start()
            sending.join(patience_s)
        elif self._thread is not None:
            self._thread.join(patience_s)

    def trouble(self) -> RayLakeError | None:
        """Why a push since the last call did not arrive; None when all did."""
        found, self._trouble = self._trouble, None
        return found

    def snapshot(self) -> dict[str, Any]:
        """How it goes, for the status document."""
        return {
            "pushed": self._pushed,
            "failed": self._failed,
            "last_at": self._last_at_s,
            "error": self._error,
        }

    @property
    def name(self) -> str:
        """The place's name."""
        return self._target.name

    def _run(self) -> None:
        while not self._ending.wait(self._target.interval_s):
            self.push()


def speaks_last(error: RayLakeError | None) -> bool:
    """Whether a run that ended like this sends its metrics once more.

    Not one that another run refused or took over from: the place shows that run's by now.
    """
    return not isinstance(error, AlreadyRunning | Fenced)


class Pushers:
    """All places that a run's metrics are sent to."""

    def __init__(self, targets: Sequence[PushTarget], clock: Clock) -> None:
        self._pushers = [Pusher(target, clock) for target in targets]

    def __bool__(self) -> bool:
        return bool(self._pushers)

    def start(self) -> None:
        """Begin with all of them; no effect when it has begun."""
        for pusher in self._pushers:
            pusher.start()

    def close(self, *, last: bool) -> None:
        """End all of them at the same time, see :meth:`Pusher.close`."""
        closing = [
            threading.Thread(target=pusher.close, kwargs={"last": last}, daemon=True)
            for pusher in self._pushers
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def troubles(self) -> list[RayLakeError]:
        """What did not arrive since the last call."""
        found = [pusher.trouble() for pusher in self._pushers]
        return [trouble for trouble in found if trouble is not None]

    def snapshot(self) -> dict[str, Any]:
        """How it goes, by place, for the status document."""
        return {pusher.name: pusher.snapshot() for pusher in self._pushers}
