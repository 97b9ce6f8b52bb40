"""How many processes a run may lose before it gives up."""

from __future__ import annotations

from collections import deque

from raylake.clock import Clock
from raylake.errors import Terminal

MAX_REPLACEMENTS = 20
WINDOW_S = 60.0


class Replacements:
    """Counts lost processes, each once, however many tries its successor takes.

    Attributes:
        counts: By kind: ``consumer``, ``owner``, ``dead_letters``.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self.counts = {"consumer": 0, "owner": 0, "dead_letters": 0}
        self._clock = clock
        self._at_s: deque[float] = deque()

    def lost(self, kind: str, last_error: str) -> None:
        """A process is gone.

        Args:
            kind: Which.
            last_error: The last that was heard, for the message.

        Raises:
            Terminal: More than :data:`MAX_REPLACEMENTS` within :data:`WINDOW_S` seconds.
        """
        self.counts[kind] += 1
        now_s = self._clock.monotonic()
        self._at_s.append(now_s)
        while self._at_s[0] < now_s - WINDOW_S:
            self._at_s.popleft()
        if len(self._at_s) > MAX_REPLACEMENTS:
            raise Terminal(
                f"{len(self._at_s)} processes were lost within {WINDOW_S:.0f} s; "
                f"the run gives up: {last_error}",
                hint="`raylake logs` shows what they said last",
            )
