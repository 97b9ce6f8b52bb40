"""Nodes that are to go: an autoscaler, or a cloud that takes a machine back, has said so."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray._private.state import state

from actors.owner_calls import OwnerCalls
from actors.process import ActorProcess

log = logging.getLogger("raylake.nodes")

LOOK_S: Final = 1.0
"""So often Ray is asked, at most."""
RELEASE_S: Final = 10.0
"""So long an owner may take to commit what waits; the rest is handed over to the next one."""
Processes = Mapping[tuple[str, str], ActorProcess]
"""By kind and name."""


class NodesToLeave:
    """Ray's list of them; nothing is placed there any more, and what runs there has its grace."""

    def __init__(self) -> None:
        self._looked_at_s = -LOOK_S
        self._found: frozenset[str] = frozenset()
        self._leaving: dict[str, tuple[ActorProcess, Any]] = {}

    def consumers(self, processes: Processes) -> set[str]:
        """The consumers that are there."""
        return self._there("consumer", processes)

    def released(self, processes: Processes, owners: Mapping[str, OwnerCalls]) -> set[str]:
        """Ask the owners there to release their tables; never waits.

        Where no other node is there yet they stay: without an owner nothing would be committed.

        Returns:
            The tables whose owners have done so since the last call.
        """
        for name in sorted(self._there("owner", processes) - self._leaving.keys()):
            actor = owners[name].known() if name in owners else None
            if actor is not None and self._others():
                log.warning("the owner of %s leaves: its node is to go", name)
                self._leaving[name] = processes["owner", name], actor.leave.remote(RELEASE_S)
        gone: set[str] = set()
        for name, (process, leaving) in list(self._leaving.items()):
            # Another one may have taken its place meanwhile.
            same = processes.get(("owner", name)) == process
            if not same or ray.wait([leaving], timeout=0)[0]:
                del self._leaving[name]
                gone.update({name} if same else ())
        return gone

    def ids(self) -> frozenset[str]:
        """Their ids, as of the last look."""
        now_s = time.monotonic()
        if now_s >= self._looked_at_s + LOOK_S:
            self._looked_at_s = now_s
            self._found = frozenset(state.get_draining_nodes())
        return self._found

    def _there(self, of: str, processes: Processes) -> set[str]:
        ids = self.ids()
        found = processes.items()
        return {name for (kind, name), one in found if kind == of and one.node in ids}

    def _others(self) -> bool:
        return any(one["Alive"] and one["NodeID"] not in self.ids() for one in ray.nodes())
