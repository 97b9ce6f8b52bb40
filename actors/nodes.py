"""Nodes that are to go: an autoscaler, or a cloud that takes a machine back, has said so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from ray._private.state import state

from actors.process import ActorProcess

LOOK_S: Final = 1.0
"""So often Ray is asked, at most."""


class DrainingNodes:
    """Ray's list of them; nothing is placed there any more, and what runs there has its grace."""

    def __init__(self) -> None:
        self._looked_at_s = -LOOK_S
        self._found: frozenset[str] = frozenset()

    def consumers(self, processes: Mapping[tuple[str, str], ActorProcess]) -> set[str]:
        """The consumers that are there, of processes by kind and name."""
        ids = self.ids()
        return {
            name
            for (kind, name), process in processes.items()
            if kind == "consumer" and process.node in ids
        }

    def ids(self) -> frozenset[str]:
        """Their ids, as of the last look."""
        now_s = time.monotonic()
        if now_s >= self._looked_at_s + LOOK_S:
            self._looked_at_s = now_s
            self._found = frozenset(state.get_draining_nodes())
        return self._found
