"""One attempt at each thing that an owner does to its table, from a refreshed handle.

Each may raise :class:`~raylake.delta.owner_core.Contended`; then the whole attempt is made again,
from the refresh on, so that nothing is ever written on an old reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from deltalake import CommitProperties

from raylake.delta import metadata
from raylake.delta.attempts import Draft
from raylake.delta.ledger import Decision, Fold, Verdict, admitted, app_id, changed_values, fold
from raylake.delta.log_commit import metadata_line
from raylake.delta.log_table import LogTable
from raylake.delta.owner_core import OwnerCore
from raylake.delta.schema import arrow_schema, delta_schema, differences, missing, refuse_names
from raylake.delta.stats import STATS_COLUMNS
from raylake.delta.table_state import TableState
from raylake.delta.unit_check import check_unit
from raylake.errors import SchemaConflict
from raylake.ingest.unit import SourcePartition, Unit, UnitOutcome

WatermarkOf = Callable[[Sequence[Unit]], int | None]
"""The table's watermark once these units are in it, ms since the epoch."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Units that wait for a commit, and what is known of their files over its attempts.

    Attributes:
        units: In order of arrival.
        watermark: Gives the watermark once the accepted ones among them are in the table.
        bad: Why units must not be committed, by unit id.
        checked: Ids of the units whose files were looked at.
    """

    units: tuple[Unit, ...]
    watermark: WatermarkOf | None = None
    bad: dict[str, str] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)


def commit_once(core: OwnerCore, state: TableState, waiting: Waiting) -> list[UnitOutcome]:
    """Steps 1 to 5 of the commit rule; step 6 is :meth:`OwnerCore.until_landed` around it."""
    refresh(core, state)
    folded = _checked_fold(core, state, waiting)
    accepted = folded.accepted()
    version = core.version
    if accepted:
        now_ms = waiting.watermark(accepted) if waiting.watermark is not None else None
        known = [ms for ms in (core.watermark_ms, now_ms) if ms is not None]
        watermark = max(known, default=None)
        draft = Draft(
            "data",
            state.txn_values(folded),
            {**metadata.of_units(accepted, state.pipelines), "watermark_ms": watermark},
            [f for u in accepted for f in u.files],
        )

        def landed(_version: int) -> None:
            state.states.update(folded.states)
            core.watermark_ms = watermark

        version = core.write(draft, landed)
    else:
        core.sync()
    return [_outcome(state, decision, version) for decision in folded.decisions]


def admit_once(
    core: OwnerCore, state: TableState, origins: Mapping[SourcePartition, int], pipeline: str
) -> None:
    """Admit partitions that are not yet, in a commit of its own (I9)."""
    refresh(core, state)
    new = {s: admitted(o) for s, o in origins.items() if s not in state.states}
    if not new:
        return
    values = {
        app_id(pipeline, s, name): value
        for s, one in new.items()
        for name, value in changed_values(None, one).items()
    }
    extra = {
        "admitted": [
            [pipeline, s.topic, s.topic_id, s.partition, one.origin]
            for s, one in sorted(new.items())
        ]
    }

    def landed(_version: int) -> None:
        state.states.update(new)
        state.pipelines.update(dict.fromkeys(new, pipeline))

    core.write(Draft("admit", values, extra), landed)


def evolve_once(core: OwnerCore, state: TableState, additions: pa.Schema) -> None:
    """Add the columns that the table lacks.

    Raises:
        SchemaConflict: An addition contradicts a column or cannot be one.
    """
    refresh(core, state)
    refuse_names(additions, str(core.root))
    found = differences(additions, state.schema)
    if found:
        raise SchemaConflict(
            f"{core.root}: the new columns contradict the table's: " + "; ".join(found),
            hint="Rename the field, or send these records to the dead letters.",
            differences=found,
        )
    new = missing(additions, state.schema)
    if len(new):
        _add_columns(core, new)
        refresh(core, state)


def add_columns_once(core: OwnerCore, additions: pa.Schema) -> None:
    """Add columns that nobody else adds to a table without :class:`TableState`."""
    core.refresh()
    new = missing(additions, arrow_schema(core.table.schema()))
    if len(new):
        _add_columns(core, new)


def _add_columns(core: OwnerCore, new: pa.Schema) -> None:
    fields = list(delta_schema(pa.schema([nullable(f) for f in new])).fields)
    core.evolve_with(
        lambda properties: core.add_columns(fields, properties),
        Draft("evolve", extra={"columns": new.names}),
    )


def name_statistics_once(core: OwnerCore, columns: Sequence[str]) -> None:
    """Let the table's property name these columns among those with statistics.

    Those that the table lacks yet are left out, and a table without the property is left alone.
    So whoever writes files of it later, keeps their statistics too.
    """
    core.refresh()
    table = core.table
    there = frozenset(arrow_schema(table.schema()).names) - frozenset(core.partition_by)
    configuration = table.metadata().configuration
    named = [one.strip() for one in configuration.get(STATS_COLUMNS, "").split(",") if one.strip()]
    known = {one.strip("`") for one in named}
    new = [one for one in columns if one in there and one not in known]
    if not named or not new or not isinstance(table, LogTable):
        return
    after = {**configuration, STATS_COLUMNS: ",".join([*named, *new])}
    # delta-rs's ``alter`` adds features that nobody asked for, which we then refuse (ADR 29).
    line = metadata_line(table, configuration=after)

    def commit(properties: CommitProperties) -> None:
        table.rewrite([], [], "SET TBLPROPERTIES", properties, others=[line])

    core.evolve_with(commit, Draft("statistics", extra={"statistics": new}))


def set_watermark_once(core: OwnerCore, value_ms: int) -> None:
    """Move the watermark; the commit keeps what it was."""
    core.refresh()

    def landed(_version: int) -> None:
        core.watermark_ms = value_ms

    extra = {"watermark_ms": value_ms, "watermark_was_ms": core.watermark_ms}
    core.write(Draft("watermark", extra=extra), landed)


def release_once(core: OwnerCore) -> None:
    """Say that this owner leaves."""
    core.refresh()
    core.write(Draft("release", extra={"released": True}), lambda _version: None)


def refresh(core: OwnerCore, state: TableState) -> None:
    """Steps 1 and 2, and the schema as it is now."""
    core.refresh()
    state.load_schema()


def nullable(field: pa.Field) -> pa.Field:
    """A field that older files may lack, in its structs too."""
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([nullable(child) for child in kind])
    return field.with_type(kind).with_nullable(True)


def _checked_fold(core: OwnerCore, state: TableState, waiting: Waiting) -> Fold:
    """Fold, check the files of what is accepted (step 4), and fold again without the bad ones."""
    ledger = state.ledger()
    while True:
        folded = fold(waiting.units, ledger, waiting.bad)
        fresh = [u for u in folded.accepted() if u.unit_id not in waiting.checked]
        if not fresh:
            return folded
        for unit in fresh:
            waiting.checked.add(unit.unit_id)
            reason = check_unit(unit, core.root, state.schema, core.partition_by)
            if reason:
                waiting.bad[unit.unit_id] = reason


def _outcome(state: TableState, decision: Decision, version: int) -> UnitOutcome:
    unit = decision.unit
    ends = {r.source: state.states[r.source].next for r in unit.ranges if r.source in state.states}
    if decision.verdict is Verdict.REFUSE:
        return UnitOutcome(unit.unit_id, "refused", None, ends, decision.reason)
    status = "committed" if decision.verdict is Verdict.ACCEPT else "already"
    return UnitOutcome(unit.unit_id, status, version, ends)
