"""What goes wrong in a run: errors for its status, and how many processes it may lose."""

from __future__ import annotations

from collections import deque
from typing import Any

from raylake.clock import Clock
from raylake.errors import RayLakeError, Terminal

MAX_REPLACEMENTS = 20
WINDOW_S = 60.0
MAX_ERRORS = 20


class Troubles:
    """Keeps errors, and counts lost processes, each once, however many tries its successor takes.

    Attributes:
        errors: The newest errors, for the status document.
        counts: Lost processes by kind: ``consumer``, ``owner``, ``dead_letters``.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self.errors: list[dict[str, Any]] = []
        self.counts = {"consumer": 0, "owner": 0, "dead_letters": 0}
        self._clock = clock
        self._at_s: deque[float] = deque()

    def note(self, error: RayLakeError) -> None:
        """Keep an error for the status document."""
        entry = {"at": self._clock.now(), **error.to_dict()}
        if not self.errors or self.errors[-1]["message"] != error.message:
            self.errors = [*self.errors[1 - MAX_ERRORS :], entry]

    def lost(self, kind: str) -> None:
        """A process is gone.

        Args:
            kind: Which.

        Raises:
            Terminal: More than :data:`MAX_REPLACEMENTS` within :data:`WINDOW_S` seconds.
        """
        self.counts[kind] += 1
        now_s = self._clock.monotonic()
        self._at_s.append(now_s)
        while self._at_s[0] < now_s - WINDOW_S:
            self._at_s.popleft()
        if len(self._at_s) > MAX_REPLACEMENTS:
            last_error = self.errors[-1]["message"] if self.errors else "see the logs"
            raise Terminal(
                f"{len(self._at_s)} processes were lost within {WINDOW_S:.0f} s; "
                f"the run gives up: {last_error}",
                hint="`raylake logs` shows what they said last",
            )
