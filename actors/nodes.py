"""Nodes that are to go: an autoscaler, or a cloud that takes a machine back, has said so."""

from __future__ import annotations

import time
from typing import Final

from ray._private.state import state

LOOK_S: Final = 1.0
"""So often Ray is asked, at most."""


class DrainingNodes:
    """Ray's list of them; nothing is placed there any more, and what runs there has its grace."""

    def __init__(self) -> None:
        self._looked_at_s = -LOOK_S
        self._found: frozenset[str] = frozenset()

    def now(self) -> frozenset[str]:
        """Their ids, as of the last look."""
        now_s = time.monotonic()
        if now_s >= self._looked_at_s + LOOK_S:
            self._looked_at_s = now_s
            self._found = frozenset(state.get_draining_nodes())
        return self._found
