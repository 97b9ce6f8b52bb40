"""A table's owner: the commit rule of DESIGN §4 over one handle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self, Unpack

import pyarrow as pa

from raylake import faults
from raylake.delta import owner_moves, owner_steps
from raylake.delta.checkpointer import Checkpointer
from raylake.delta.identity import OwnerIdentity
from raylake.delta.opening import Attaching, attach_core
from raylake.delta.owner_core import OwnerCore
from raylake.delta.owner_rewrites import OwnerRewrites
from raylake.delta.pending import PendingDeadLetters, pending_dead_letters
from raylake.delta.reading import readable
from raylake.delta.replaying import Replay, replay_once
from raylake.delta.rewritten import Rewritten
from raylake.delta.spec import TableSpec
from raylake.delta.table_state import TableState
from raylake.ingest.retry import RetryCounters
from raylake.ingest.unit import PartitionState, SourcePartition, Unit, UnitOutcome


class OwnedTable:
    """One table and its owner. Created by :meth:`attach`; one per table and owner process.

    Not thread-safe: call it from one thread at a time. After :class:`~raylake.errors.Fenced` or
    :class:`~raylake.errors.LogDamaged` it must not be used again.
    """

    def __init__(self, core: OwnerCore, spec: TableSpec, pipeline: str) -> None:
        self._core = core
        self._spec = spec
        self._pipeline = pipeline
        self._state = TableState(core.table, spec)

    @classmethod
    def attach(
        cls, spec: TableSpec, identity: OwnerIdentity, **attaching: Unpack[Attaching]
    ) -> Self:
        """Open or create the table and commit a new epoch, alone (I3, I9, I10, I11).

        Args:
            spec: The table as configured.
            identity: This owner.
            attaching: The clock and how, see :class:`~raylake.delta.opening.Attaching`.

        Raises:
            NotOurTable, UnsupportedTable, SchemaConflict, AlreadyRunning, Fenced, LogDamaged,
            Refused: Nothing was changed.
            DependencyUnreachable: The store cannot be read or written.
        """
        core = attach_core(spec, identity, **attaching)
        with readable(spec.root):
            owner_moves.finish_interrupted(core)
            _name_statistics(core, spec)
            return cls(core, spec, identity.pipeline)

    @property
    def schema(self) -> pa.Schema:
        """The table's Arrow schema, partition columns included: what files are written with."""
        return self._state.schema

    @property
    def fingerprint(self) -> str:
        """The fingerprint of :attr:`schema`; units carry it."""
        return self._state.fingerprint

    @property
    def table_id(self) -> str:
        """The table's id in its metadata, the same for the table's life."""
        return self._core.table_id

    @property
    def version(self) -> int:
        """The newest version that this owner knows."""
        return self._core.version

    @property
    def epoch(self) -> int:
        """This owner's epoch."""
        return self._core.epoch

    @property
    def retries(self) -> RetryCounters:
        """Counts what this owner tries again."""
        return self._core.conflicts.counters

    @property
    def path(self) -> str:
        """The table's folder."""
        return self._spec.path

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The partition columns."""
        return self._spec.partition_by

    @property
    def watermark_ms(self) -> int | None:
        """The table's watermark as it was last committed; ms since the epoch (DESIGN §8)."""
        return self._core.watermark_ms

    def checkpointer(self, interval_commits: int = 100) -> Checkpointer:
        """What writes this table's checkpoints, each ``interval_commits`` versions."""
        return Checkpointer(self.path, interval_commits=interval_commits, clock=self._core.clock)

    def count_live_files(self) -> int:
        """The data files of the newest version that this owner knows.

        Raises:
            DependencyUnreachable: The log cannot be read now.
        """
        with readable(self._core.root):
            return len(self._core.table.file_uris())

    @property
    def generation(self) -> int:
        """The newest generation that this owner was told; 0 for none."""
        return max(self._state.generations.values(), default=0)

    def set_generation(self, sources: Iterable[SourcePartition], generation: int) -> None:
        """Refuse units of these partitions that carry an older generation (I7)."""
        known = self._state.generations
        for source in sources:
            known[source] = max(generation, known.get(source, generation))

    def states(self) -> dict[SourcePartition, PartitionState]:
        """The state of every admitted partition, of all pipelines."""
        return dict(self._state.states)

    def ends(
        self, sources: Iterable[SourcePartition], *, pipeline: str | None = None
    ) -> dict[SourcePartition, PartitionState]:
        """The state of those of ``sources`` that are admitted.

        Raises:
            Refused: A topic's id is in this table under another pipeline's name (I9).
        """
        asked = list(sources)
        self._state.refuse_other_pipeline(asked, pipeline or self._pipeline)
        return {s: self._state.states[s] for s in asked if s in self._state.states}

    def admit(
        self, origins: Mapping[SourcePartition, int], *, pipeline: str | None = None
    ) -> dict[SourcePartition, PartitionState]:
        """Admit partitions at their first offsets, in a commit of its own (I9); idempotent.

        Returns:
            The states of all asked partitions; those that were admitted before keep theirs.

        Raises:
            Refused: A topic's id is in this table under another pipeline's name.
            Fenced, LogDamaged: As :meth:`commit`.
        """
        name = pipeline or self._pipeline
        self._state.refuse_other_pipeline(origins, name)
        self._core.until_landed(
            lambda: owner_steps.admit_once(self._core, self._state, origins, name)
        )
        self._core.sync()
        return {s: self._state.states[s] for s in origins}

    def commit(
        self, units: Sequence[Unit], *, watermark: owner_steps.WatermarkOf | None = None
    ) -> list[UnitOutcome]:
        """Commit waiting units, in order of arrival, as one version (the commit rule).

        Args:
            units: Units in order of arrival.
            watermark: Gives the table's watermark once the accepted units, which it is called
                with, are in the table; kept in the commit, and never moved back.

        Returns:
            One outcome per unit, durable when ``durability`` is ``sync``.

        Raises:
            Fenced: A newer owner exists; stop for good.
            LogDamaged: The log or the table was changed under our feet; stop and ask.
            Retryable: Nothing was committed; hand the same units over again later.
            OutcomeUnknown: The log cannot be read; hand the same units over again later, those
                that landed come back as ``already``.
        """
        faults.reach("owner.before_commit", units=[u.unit_id for u in units])
        waiting = owner_steps.Waiting(tuple(units), watermark)
        result: list[UnitOutcome] = self._core.until_landed(
            lambda: owner_steps.commit_once(self._core, self._state, waiting)
        )
        return result

    def move(self, order: owner_moves.Order) -> tuple[str, ...]:
        """Move positions by decision, in a commit of its own (I12).

        Returns:
            What could not be finished although the move is in the log; a sentence each.

        Raises:
            Refused, ConfigError: Why it cannot be done; nothing was changed.
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        return owner_moves.move(self._core, self._state, order)

    def replay(self, order: Replay) -> int:
        """Commit rows that were dead letters; idempotent (I5).

        Returns:
            The version that has it.

        Raises:
            ReplayOvertaken: Look at the letters again; nothing was changed.
            Refused: Why it cannot be done; nothing was changed.
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        version = self._core.until_landed(lambda: replay_once(self._core, self._state, order))
        return int(version)

    def rewrites(self, told: Callable[[Rewritten], None] = lambda _one: None) -> OwnerRewrites:
        """What commits files in the place of others, between this owner's other commits.

        Args:
            told: Called once with each rewrite that has landed.
        """
        return OwnerRewrites(self._core, self._state, told)

    def set_watermark(self, value_ms: int) -> None:
        """Move the watermark by decision, back as well as forward, in a commit of its own.

        Args:
            value_ms: The new watermark; ms since the epoch (DESIGN §8).

        Raises:
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        self._core.until_landed(lambda: owner_steps.set_watermark_once(self._core, value_ms))
        self._core.sync()

    def evolve(self, additions: pa.Schema) -> tuple[pa.Schema, str]:
        """Add columns, also inside structs; idempotent where the table has them already.

        Returns:
            The table's schema and fingerprint afterwards.

        Raises:
            SchemaConflict: An addition contradicts a column, or differs from one only in case.
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        faults.reach("evolve.before_commit", columns=additions.names)
        self._core.until_landed(lambda: owner_steps.evolve_once(self._core, self._state, additions))
        faults.reach("evolve.after_commit", columns=additions.names)
        _name_statistics(self._core, self._spec)
        return self._state.schema, self._state.fingerprint

    def pending_dead_letters(self, after_version: int) -> PendingDeadLetters:
        """What the data log names for the dead-letter table after a data version (I5).

        Raises:
            LogDamaged: A log file that is needed was cleaned up or is torn.
            DependencyUnreachable: The log cannot be read now.
        """
        with readable(self._core.root):
            return pending_dead_letters(self._core.root, after_version)

    def release(self) -> None:
        """Say that this owner leaves, so that the next one need not wait (I11).

        Raises:
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        self._core.until_landed(lambda: owner_steps.release_once(self._core))


def _name_statistics(core: OwnerCore, spec: TableSpec) -> None:
    if spec.statistics:
        core.until_landed(lambda: owner_steps.name_statistics_once(core, spec.statistics))
        core.sync()
