"""Deliberate moves of positions as commits of the owner, from a refreshed handle (I12)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deltalake import CommitProperties

from raylake.delta.attempts import Draft
from raylake.delta.cutting import Cut, write_the_rest
from raylake.delta.ledger import LIFTED_APP, app_id, changed_values
from raylake.delta.log_commit import metadata_line
from raylake.delta.log_reader import LogReader
from raylake.delta.log_table import LogTable
from raylake.delta.metadata import range_json
from raylake.delta.moves import Adopt, Skip, adopted, skipped
from raylake.delta.owner_core import Contended, OwnerCore, add_action
from raylake.delta.owner_steps import refresh
from raylake.delta.prepared import PreparedRewind, prepare, refuse_changed, refuse_missing
from raylake.delta.rewinding import Rewind, TakenBack
from raylake.delta.table_state import TableState
from raylake.errors import RayLakeError, UnsupportedTable
from raylake.ingest.unit import DataFile, PartitionState, SourcePartition

Order = Adopt | Skip | Rewind | PreparedRewind

APPEND_ONLY = "delta.appendOnly"


def move(core: OwnerCore, state: TableState, order: Order) -> tuple[str, ...]:
    """Commit a move, and leave the table as append-only as it was.

    Returns:
        What could not be finished although the move is in the log: a sentence each, with what
        will set it right.

    Raises:
        Refused, ConfigError: Why it cannot be done; nothing was changed.
        Fenced, LogDamaged, Retryable, OutcomeUnknown: As :meth:`OwnerCore.write`.
    """
    takes_rows = isinstance(order, Rewind | PreparedRewind) and order.replace
    landed: list[int] = []
    left: list[str] = []
    failed: RayLakeError | OSError | None = None
    lift_open = takes_rows
    try:
        if takes_rows:
            core.until_landed(lambda: lift_append_only_once(core))
            lift_open = False
        core.until_landed(lambda: _move_once(core, state, order, landed.append))
        core.sync()
    except (RayLakeError, OSError) as error:
        failed = error
        # It may have landed, or land late: whoever looks at the log again finds it.
        with contextlib.suppress(RayLakeError, OSError):
            core.refresh()
    finally:
        if takes_rows:
            left += _closed_again(core, lift_open=lift_open)
    if failed is not None:
        if not landed:
            raise failed
        left.insert(0, f"the move is in the log, version {landed[0]}; then: {failed}")
    return tuple(left)


def finish_interrupted(core: OwnerCore) -> None:
    """What a new owner does first: a rewind that was interrupted may have left the table open."""
    # Whatever an earlier owner did is on the handle that the epoch was taken on.
    if core.table.transaction_version(LIFTED_APP) == 1:
        core.until_landed(lambda: restore_append_only_once(core))


def _closed_again(core: OwnerCore, *, lift_open: bool) -> list[str]:
    try:
        core.until_landed(lambda: restore_append_only_once(core, lift_open=lift_open))
        core.sync()
    except (RayLakeError, OSError) as error:
        # It must not hide how the move ended.
        return [f"{core.root} is not append-only until its next owner comes: {error}"]
    return []


def _move_once(
    core: OwnerCore, state: TableState, order: Order, told: Callable[[int], None]
) -> None:
    refresh(core, state)
    match order:
        case Adopt():
            _adopt(core, state, order, told)
        case Skip():
            _skip(core, state, order, told)
        case Rewind():
            prepared = prepare(order, state.states, core.root, core.durability)
            if prepared.found.version != int(core.table.version()):
                raise Contended(f"{core.root}: version {prepared.found.version} came meanwhile")
            _rewind(core, state, prepared, told)
        case PreparedRewind():
            refuse_changed(order, LogReader(str(core.root)), int(core.table.version()))
            refuse_missing(order, core.root)
            _rewind(core, state, order, told)


def _adopt(core: OwnerCore, state: TableState, order: Adopt, told: Callable[[int], None]) -> None:
    state.refuse_other_pipeline(order.origins, order.pipeline)
    new = adopted(order, state.states, str(core.root))
    if not new:
        return
    listed = [
        [order.pipeline, s.topic, s.topic_id, s.partition, one.origin]
        for s, one in sorted(new.items())
    ]
    extra = {"admitted": listed, "adopted": dict(order.note)}
    draft = Draft("adopt", _values(state, new, order.pipeline), extra)
    core.write(draft, _landed(state, new, order.pipeline, told))


def _skip(core: OwnerCore, state: TableState, order: Skip, told: Callable[[int], None]) -> None:
    state.refuse_other_pipeline(order.ends, order.pipeline)
    found = skipped(order, state.states, str(core.root))
    new = {source: after for source, (_, after) in found.items()}
    ranges = [range_json(one, order.pipeline) for one, _ in found.values()]
    extra = {"ranges": ranges, "reason": order.reason}
    draft = Draft("skip", _values(state, new, order.pipeline), extra)
    core.write(draft, _landed(state, new, order.pipeline, told))


def _rewind(
    core: OwnerCore, state: TableState, prepared: PreparedRewind, told: Callable[[int], None]
) -> None:
    order, found = prepared.order, prepared.found
    state.refuse_other_pipeline(order.ends, order.pipeline)
    new = {source: one.now for source, one in found.partitions.items()}
    rewound = [rewound_json(order, source, one) for source, one in found.partitions.items()]
    extra: dict[str, Any] = {"rewound": rewound}
    if found.letters_found:
        # From now on they are not of the account; they leave in the order of versions (I5).
        extra["withdrawn"] = {"table": order.table, "letters": found.letters_found}
    draft = Draft("rewind", _values(state, new, order.pipeline), extra)
    landed = _landed(state, new, order.pipeline, told)
    if found.cuts:
        replace_files(core, found.cuts, prepared.kept, draft, landed)
    else:
        core.write(draft, landed)


def rewound_json(order: Rewind, source: SourcePartition, one: TakenBack) -> dict[str, Any]:
    """What a rewind commit says of one partition."""
    return {
        "pipeline": order.pipeline,
        **asdict(source),
        "from": one.was.next,
        "to": one.now.next,
        "origin": one.now.origin,
        **asdict(one.counts),
        "rows_found": one.rows_found,
        "letters_found": one.letters_found,
    }


def cut_files(
    core: OwnerCore, cuts: Sequence[Cut], draft: Draft, landed: Callable[[int], None]
) -> None:
    """Take rows out of a table, and put the draft's files in, in one commit.

    Nothing is changed when it fails.

    Raises:
        Contended, DependencyUnreachable, OutcomeUnknown: As :meth:`OwnerCore.write`.
    """
    configuration = core.table.metadata().configuration
    kept = write_the_rest(core.root, cuts, configuration, core.durability)
    replace_files(core, cuts, (*kept, *draft.files), draft, landed)


def replace_files(
    core: OwnerCore,
    cuts: Sequence[Cut],
    kept: Sequence[DataFile],
    draft: Draft,
    landed: Callable[[int], None],
) -> None:
    """Commit files without the rows that leave in the place of those that hold them.

    Raises:
        Contended, DependencyUnreachable, OutcomeUnknown: As :meth:`OwnerCore.write`.
    """
    table = log_table_of(core)
    added = [add_action(file, core.clock) for file in kept]
    removed = [cut.remove_action(core.clock.now()) for cut in cuts]

    def commit(properties: CommitProperties) -> None:
        table.rewrite(removed, added, "DELETE", properties)

    core.evolve_with(commit, draft, landed)


def log_table_of(core: OwnerCore) -> LogTable:
    """The handle, where it writes its log itself.

    Raises:
        UnsupportedTable: It does not.
    """
    if not isinstance(core.table, LogTable):
        raise UnsupportedTable(f"{core.root}: rows leave only tables whose log is written here")
    return core.table


def lift_append_only_once(core: OwnerCore) -> None:
    """Let rows leave an append-only table; its txn says until when (Delta protocol, append-only).

    A table that is not append-only is left alone: somebody else wants it so.
    """
    core.refresh()
    if core.table.metadata().configuration.get(APPEND_ONLY) == "true":
        _set_append_only(core, "false")


def restore_append_only_once(core: OwnerCore, *, lift_open: bool = False) -> None:
    """Make a table append-only again that a rewind of ours opened, this one or an interrupted one.

    The txn is in every checkpoint, so that clean-up does not lose it.

    Args:
        core: The table's handle.
        lift_open: Whether a lift was begun of which it is not known that it ended: a store may put
            it yet, until its version is another commit's.
    """
    core.refresh()
    if core.table.transaction_version(LIFTED_APP) != 1:
        if lift_open:
            core.write(Draft("slot_closed"), lambda _version: None)
        return
    if core.table.metadata().configuration.get(APPEND_ONLY) == "false":
        _set_append_only(core, "true")
    else:
        # Somebody has decided on it since.
        core.write(Draft("append_only", {LIFTED_APP: 0}), lambda _version: None)


def _set_append_only(core: OwnerCore, to: str) -> None:
    table = log_table_of(core)
    configuration = {**table.metadata().configuration, APPEND_ONLY: to}
    # delta-rs's ``alter`` adds features that nobody asked for, which we then refuse (ADR 29).
    line = metadata_line(table, configuration=configuration)

    def commit(properties: CommitProperties) -> None:
        table.rewrite([], [], "SET TBLPROPERTIES", properties, others=[line])

    lifted = int(to == "false")
    core.evolve_with(commit, Draft("append_only", {LIFTED_APP: lifted}, {APPEND_ONLY: to}))


def _values(
    state: TableState, new: Mapping[SourcePartition, PartitionState], pipeline: str
) -> dict[str, int]:
    return {
        app_id(pipeline, source, name): value
        for source, after in new.items()
        for name, value in changed_values(state.states.get(source), after).items()
    }


def _landed(
    state: TableState,
    new: Mapping[SourcePartition, PartitionState],
    pipeline: str,
    told: Callable[[int], None],
) -> Callable[[int], None]:
    def landed(version: int) -> None:
        state.states.update(new)
        state.pipelines.update(dict.fromkeys(new, pipeline))
        told(version)

    return landed
