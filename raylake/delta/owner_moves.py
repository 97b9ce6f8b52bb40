"""One attempt at each deliberate move of positions, from a refreshed handle (I12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylake.delta.ledger import app_id, changed_values
from raylake.delta.metadata import range_json
from raylake.delta.moves import Adopt, Skip, adopted, skipped
from raylake.delta.owner_core import Draft, OwnerCore
from raylake.delta.owner_steps import refresh
from raylake.delta.table_state import TableState
from raylake.ingest.unit import PartitionState, SourcePartition

Order = Adopt | Skip


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
    _write(core, state, Draft("adopt", _values(state, new, order.pipeline), extra), new, order)


def _skip(core: OwnerCore, state: TableState, order: Skip) -> None:
    state.refuse_other_pipeline(order.ends, order.pipeline)
    found = skipped(order, state.states, str(core.root))
    new = {source: after for source, (_, after) in found.items()}
    ranges = [range_json(one, order.pipeline) for one, _ in found.values()]
    extra = {"ranges": ranges, "reason": order.reason}
    _write(core, state, Draft("skip", _values(state, new, order.pipeline), extra), new, order)


def _values(
    state: TableState, new: Mapping[SourcePartition, PartitionState], pipeline: str
) -> dict[str, int]:
    return {
        app_id(pipeline, source, name): value
        for source, after in new.items()
        for name, value in changed_values(state.states.get(source), after).items()
    }


def _write(
    core: OwnerCore,
    state: TableState,
    draft: Draft,
    new: Mapping[SourcePartition, PartitionState],
    order: Any,
) -> None:
    def landed(_version: int) -> None:
        state.states.update(new)
        state.pipelines.update(dict.fromkeys(new, order.pipeline))

    core.write(draft, landed)
