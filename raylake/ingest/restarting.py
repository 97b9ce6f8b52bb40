"""When a run that failed is started again: after what may pass, a bounded number of times (I11).

The same errors that an operation may try again: a dependency did not answer, or it is unknown
whether something happened (a new run reads the log first, I4). What a newer owner fenced, what was
refused and what is configured wrongly would fail again, or must not go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from raylake.errors import OutcomeUnknown, RayLakeError, Retryable

FIRST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 300.0
FORGOTTEN_S: Final = 3600.0
"""A run that lasted this long begins to count anew."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a run was started again, and why.

    Attributes:
        limit: At most so often in a row.
        count: So often until now.
        run_id: The run, which stays the same; None: it has not been started again.
        last: The error of the last time: ``code``, ``message``, ``at`` (seconds since the epoch).
        first_wait_s: Seconds until the first time; then twice as long each time.
    """

    limit: int = 0
    count: int = 0
    run_id: str | None = None
    last: Mapping[str, Any] = field(default_factory=dict)
    first_wait_s: float = FIRST_WAIT_S

    @classmethod
    def read(cls, limit: int, text: str | None) -> Self:
        """As the process before handed it on; anew when there is nothing."""
        told = json.loads(text) if text else {}
        return cls(limit, **told)

    def text(self) -> str:
        """What is handed on."""
        told = {"count": self.count, "run_id": self.run_id, "last": dict(self.last)}
        return json.dumps({**told, "first_wait_s": self.first_wait_s})

    def to_dict(self) -> dict[str, Any]:
        """For the status document."""
        return {"count": self.count, "limit": self.limit, "last": dict(self.last)}

    def after(
        self, error: RayLakeError, run_id: str, lasted_s: float, now_s: float
    ) -> Restarts | None:
        """The next time; None: there is none.

        Args:
            error: Why the run failed.
            run_id: The run.
            lasted_s: How long it had lasted, in seconds.
            now_s: Now, seconds since the epoch.
        """
        count = 0 if lasted_s >= FORGOTTEN_S else self.count
        if count >= self.limit or not isinstance(error, (Retryable, OutcomeUnknown)):
            return None
        last = {"code": error.code, "message": error.message, "at": now_s}
        return Restarts(self.limit, count + 1, run_id, last, self.first_wait_s)

    def wait_s(self, chance: float) -> float:
        """Seconds until the next start: doubled each time, and up to a quarter more by chance.

        Args:
            chance: From 0 to 1.
        """
        wait_s = self.first_wait_s * 2.0 ** max(0, self.count - 1)
        return float(min(wait_s, LONGEST_WAIT_S) * (1.0 + chance / 4))
