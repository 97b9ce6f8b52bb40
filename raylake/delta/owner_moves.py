"""One attempt at each deliberate move of positions, from a refreshed handle (I12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deltalake import CommitProperties

from raylake.delta.attempts import Draft
from raylake.delta.cutting import Cut, keep_the_rest
from raylake.delta.files import WriteOptions
from raylake.delta.ledger import app_id, changed_values
from raylake.delta.log_reader import LogReader
from raylake.delta.log_table import LogTable
from raylake.delta.metadata import range_json
from raylake.delta.moves import Adopt, Skip, adopted, skipped
from raylake.delta.owner_core import NO_HOOKS, Contended, OwnerCore, add_action
from raylake.delta.owner_steps import refresh
from raylake.delta.rewinding import Rewind, TakenBack, survey
from raylake.delta.table_state import TableState
from raylake.errors import UnsupportedTable
from raylake.ingest.unit import PartitionState, SourcePartition

Order = Adopt | Skip | Rewind

APPEND_ONLY = "delta.appendOnly"


def move_once(core: OwnerCore, state: TableState, order: Order) -> None:
    """Commit a move.

    Raises:
        Refused, ConfigError: Why it cannot be done; nothing was changed.
    """
    refresh(core, state)
    match order:
        case Adopt():
            _adopt(core, state, order)
        case Skip():
            _skip(core, state, order)
        case Rewind():
            _rewind(core, state, order)


def _adopt(core: OwnerCore, state: TableState, order: Adopt) -> None:
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
    core.write(draft, _landed(state, new, order.pipeline))


def _skip(core: OwnerCore, state: TableState, order: Skip) -> None:
    state.refuse_other_pipeline(order.ends, order.pipeline)
    found = skipped(order, state.states, str(core.root))
    new = {source: after for source, (_, after) in found.items()}
    ranges = [range_json(one, order.pipeline) for one, _ in found.values()]
    extra = {"ranges": ranges, "reason": order.reason}
    draft = Draft("skip", _values(state, new, order.pipeline), extra)
    core.write(draft, _landed(state, new, order.pipeline))


def _rewind(core: OwnerCore, state: TableState, order: Rewind) -> None:
    state.refuse_other_pipeline(order.ends, order.pipeline)
    found = survey(order, state.states, LogReader(str(core.root)))
    if found.version != int(core.table.version()):
        raise Contended(f"{core.root}: version {found.version} came meanwhile")
    new = {source: one.now for source, one in found.partitions.items()}
    rewound = [rewound_json(order, source, one) for source, one in found.partitions.items()]
    draft = Draft("rewind", _values(state, new, order.pipeline), {"rewound": rewound})
    if found.cuts:
        cut_files(core, found.cuts, draft, _landed(state, new, order.pipeline))
    else:
        core.write(draft, _landed(state, new, order.pipeline))


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
    }


def cut_files(
    core: OwnerCore, cuts: Sequence[Cut], draft: Draft, landed: Callable[[int], None]
) -> None:
    """Take rows out of a table in one commit; nothing is changed when it fails.

    Raises:
        Contended, DependencyUnreachable, OutcomeUnknown: As :meth:`OwnerCore.write`.
    """
    table = core.table
    if not isinstance(table, LogTable):
        raise UnsupportedTable(f"{core.root}: rows leave only tables whose log is written here")
    named = table.metadata().configuration.get("delta.dataSkippingStatsColumns")
    columns = tuple(named.split(",")) if named else None
    options = WriteOptions(core.durability, stats_columns=columns)
    files = [file for cut in cuts for file in keep_the_rest(core.root, cut, options)]
    added = [add_action(file, core.clock) for file in files]
    removed = [cut.remove_action(core.clock.now()) for cut in cuts]

    def commit(properties: CommitProperties) -> None:
        table.rewrite(removed, added, "DELETE", properties)

    core.evolve_with(commit, draft, landed)


def set_append_only_once(core: OwnerCore, *, was: str, to: str) -> None:
    """Set ``delta.appendOnly`` where it has another value; a table without it is left alone.

    Under it, no commit may take rows away (Delta protocol, append-only tables).
    """
    core.refresh()
    if core.table.metadata().configuration.get(APPEND_ONLY) != was:
        return
    value = {APPEND_ONLY: to}

    def commit(properties: CommitProperties) -> None:
        core.table.alter.set_table_properties(
            value, commit_properties=properties, post_commithook_properties=NO_HOOKS
        )

    core.evolve_with(commit, Draft("append_only", extra=value))


def close_again_once(core: OwnerCore, wanted: Mapping[str, str]) -> None:
    """Make a table append-only again that an interrupted rewind left open."""
    if wanted.get(APPEND_ONLY) != "true":
        return
    if core.table.metadata().configuration.get(APPEND_ONLY) == "false":
        set_append_only_once(core, was="false", to="true")


def _values(
    state: TableState, new: Mapping[SourcePartition, PartitionState], pipeline: str
) -> dict[str, int]:
    return {
        app_id(pipeline, source, name): value
        for source, after in new.items()
        for name, value in changed_values(state.states.get(source), after).items()
    }


def _landed(
    state: TableState, new: Mapping[SourcePartition, PartitionState], pipeline: str
) -> Callable[[int], None]:
    def landed(_version: int) -> None:
        state.states.update(new)
        state.pipelines.update(dict.fromkeys(new, pipeline))

    return landed
