"""What the supervisor asks of the actors that own tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from actors.calls import RayOwner, result
from raylake.delta.replaying import Replay
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.ports import OwnerLost, TableView
from raylake.ingest.unit import PartitionState, SourcePartition


class OwnerCalls:
    """What the supervisor asks of an owner actor."""

    def __init__(self, owner: RayOwner) -> None:
        self._owner = owner

    def actor(self) -> Any:
        """The actor; raises ``OwnerLost`` when there is none."""
        return self._owner.actor()

    def known(self) -> Any:
        """The actor as it was last known; None when it never was."""
        try:
            return self._owner.actor()
        except OwnerLost:
            return None

    def ask_report(self, after_s: float = 0.0) -> Any:
        """Ask for a report of the moment ``after_s`` from now; returns the question."""
        return self.actor().report.remote(after_s)

    def ends(self, sources: list[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        """Where the table stands in those of the partitions that are admitted."""
        return self._owner.ends(sources)

    def admit(
        self, origins: Mapping[SourcePartition, int]
    ) -> Mapping[SourcePartition, PartitionState]:
        """Admit partitions at their first offsets."""
        admitted: Mapping[SourcePartition, PartitionState] = self._call("admit", dict(origins))
        return admitted

    def admitted(self) -> list[SourcePartition]:
        """Every partition that the table has admitted."""
        admitted: list[SourcePartition] = self._call("admitted")
        return admitted

    def generation(self) -> int:
        """The newest generation that the owner was told."""
        generation: int = self._call("generation")
        return generation

    def set_generation(self, sources: list[SourcePartition], generation: int) -> None:
        """Refuse units of these partitions that carry an older generation."""
        self._call("set_generation", sources, generation)

    def state(self) -> OwnerState:
        """What it does; never waits for a commit."""
        state: OwnerState = result(self.ask_report()).state
        return state

    def hurry(self, for_s: float = math.inf) -> None:
        """For so long commit as soon as anything waits; returns at once."""
        self.actor().hurry.remote(for_s)

    def evolve(self, additions: pa.Schema) -> TableView:
        """Add columns; those that are there already are no error."""
        return self._owner.evolve(additions)

    def replay(self, order: Replay) -> int:
        """Commit rows that were dead letters; returns the version that has them."""
        version: int = self._call("replay", order)
        return version

    def set_watermark(self, value_ms: int, *, dry_run: bool) -> int | None:
        """Move the watermark; returns what it was."""
        was_ms: int | None = self._call("set_watermark", value_ms, dry_run)
        return was_ms

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return result(getattr(self.actor(), method).remote(*arguments))
        except OwnerLost:
            self._owner.forget()
            raise
