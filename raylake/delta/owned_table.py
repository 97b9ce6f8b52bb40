"""A table's owner: the commit rule of DESIGN §4 over one handle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import pyarrow as pa

from raylake import faults
from raylake.clock import Clock
from raylake.delta import metadata
from raylake.delta.identity import OwnerIdentity
from raylake.delta.ledger import Fold, Verdict, admitted, app_id, changed_values, fold
from raylake.delta.opening import attach_core
from raylake.delta.owner_core import Draft, OwnerCore
from raylake.delta.pending import PendingDeadLetters, pending_dead_letters
from raylake.delta.schema import delta_schema, differences, missing, refuse_names
from raylake.delta.spec import Durability, TableSpec
from raylake.delta.table_state import TableState
from raylake.delta.unit_check import check_unit
from raylake.errors import SchemaConflict
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
        cls,
        spec: TableSpec,
        identity: OwnerIdentity,
        *,
        clock: Clock,
        durability: Durability = "sync",
        take_over: bool = False,
        takeover_after_s: float = 30.0,
    ) -> Self:
        """Open or create the table and commit a new epoch, alone (I3, I9, I10, I11).

        Args:
            spec: The table as configured.
            identity: This owner.
            clock: Time.
            durability: ``sync``: every answer is on the disk before it is given.
            take_over: Skip the courtesy towards an owner that may be alive.
            takeover_after_s: Seconds of silence after which a foreign owner counts as gone.

        Raises:
            NotOurTable, UnsupportedTable, SchemaConflict, AlreadyRunning, LogDamaged, Refused:
                Nothing was changed.
            DependencyUnreachable: The store cannot be read or written.
        """
        core = attach_core(
            spec,
            identity,
            clock=clock,
            durability=durability,
            takeover_after_s=None if take_over else takeover_after_s,
        )
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
    def path(self) -> str:
        """The table's folder."""
        return self._spec.path

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The partition columns."""
        return self._spec.partition_by

    def set_generation(self, pipeline: str, generation: int) -> None:
        """Tell the current generation of a pipeline's assignment; older units are refused (I7)."""
        known = self._state.generations.get(pipeline, generation)
        self._state.generations[pipeline] = max(generation, known)

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
        self._core.until_landed(lambda: self._try_admit(origins, name))
        self._core.sync()
        return {s: self._state.states[s] for s in origins}

    def commit(self, units: Sequence[Unit]) -> list[UnitOutcome]:
        """Commit waiting units, in order of arrival, as one version (the commit rule).

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
        bad: dict[str, str] = {}
        checked: set[str] = set()
        result: list[UnitOutcome] = self._core.until_landed(
            lambda: self._try_commit(units, bad, checked)
        )
        return result

    def evolve(self, additions: pa.Schema) -> tuple[pa.Schema, str]:
        """Add columns, also inside structs; idempotent where the table has them already.

        Returns:
            The table's schema and fingerprint afterwards.

        Raises:
            SchemaConflict: An addition contradicts a column, or differs from one only in case.
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        faults.reach("evolve.before_commit", columns=additions.names)
        self._core.until_landed(lambda: self._try_evolve(additions))
        faults.reach("evolve.after_commit", columns=additions.names)
        return self._state.schema, self._state.fingerprint

    def pending_dead_letters(self, after_version: int) -> PendingDeadLetters:
        """What the data log names for the dead-letter table after a data version (I5).

        Raises:
            LogDamaged: A log file that is needed was cleaned up or is torn.
        """
        return pending_dead_letters(self._core.root, after_version)

    def release(self) -> None:
        """Say that this owner leaves, so that the next one need not wait (I11).

        Raises:
            Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`commit`.
        """
        self._core.until_landed(self._try_release)

    def _try_release(self) -> None:
        self._core.refresh()
        self._core.write(Draft("release", extra={"released": True}), lambda _version: None)

    def _try_admit(self, origins: Mapping[SourcePartition, int], pipeline: str) -> None:
        self._refresh()
        new = {s: admitted(o) for s, o in origins.items() if s not in self._state.states}
        if not new:
            return
        values = {
            app_id(pipeline, s, name): value
            for s, state in new.items()
            for name, value in changed_values(None, state).items()
        }
        extra = {
            "admitted": [
                [pipeline, s.topic, s.topic_id, s.partition, state.origin]
                for s, state in sorted(new.items())
            ]
        }

        def landed(_version: int) -> None:
            self._state.states.update(new)
            self._state.pipelines.update(dict.fromkeys(new, pipeline))

        self._core.write(Draft("admit", values, extra), landed)

    def _try_commit(
        self, units: Sequence[Unit], bad: dict[str, str], checked: set[str]
    ) -> list[UnitOutcome]:
        self._refresh()
        folded = self._checked_fold(units, bad, checked)
        accepted = folded.accepted()
        version = self._core.version
        if accepted:
            draft = Draft(
                "data",
                self._state.txn_values(folded),
                metadata.of_units(accepted, self._state.pipelines),
                [f for u in accepted for f in u.files],
            )
            version = self._core.write(
                draft, lambda _version: self._state.states.update(folded.states)
            )
        else:
            self._core.sync()
        return [self._outcome(d.unit, d.verdict, d.reason, version) for d in folded.decisions]

    def _checked_fold(self, units: Sequence[Unit], bad: dict[str, str], checked: set[str]) -> Fold:
        """Fold, check the files of what is accepted, and fold again without the bad ones."""
        ledger = self._state.ledger()
        while True:
            folded = fold(units, ledger, bad)
            fresh = [u for u in folded.accepted() if u.unit_id not in checked]
            if not fresh:
                return folded
            for unit in fresh:
                checked.add(unit.unit_id)
                reason = check_unit(unit, self._core.root, self._state.schema, self.partition_by)
                if reason:
                    bad[unit.unit_id] = reason

    def _outcome(self, unit: Unit, verdict: Verdict, reason: str, version: int) -> UnitOutcome:
        ends = {
            r.source: self._state.states[r.source].next
            for r in unit.ranges
            if r.source in self._state.states
        }
        if verdict is Verdict.REFUSE:
            return UnitOutcome(unit.unit_id, "refused", None, ends, reason)
        status = "committed" if verdict is Verdict.ACCEPT else "already"
        return UnitOutcome(unit.unit_id, status, version, ends)

    def _try_evolve(self, additions: pa.Schema) -> None:
        self._refresh()
        refuse_names(additions, self.path)
        found = differences(additions, self._state.schema)
        if found:
            raise SchemaConflict(
                f"{self.path}: the new columns contradict the table's: " + "; ".join(found),
                hint="Rename the field, or send these records to the dead letters.",
                differences=found,
            )
        new = missing(additions, self._state.schema)
        if not len(new):
            return
        fields = list(delta_schema(pa.schema([f.with_nullable(True) for f in new])).fields)
        self._core.evolve_with(
            lambda properties: self._core.add_columns(fields, properties),
            "evolve",
            {"columns": new.names},
        )
        self._refresh()

    def _refresh(self) -> None:
        self._core.refresh()
        self._state.load_schema()
