"""Compaction and Z-order right after a write, where the log says that they are worth it (C5).

The same measures as in a plan of upkeep decide (:mod:`raylake.maintenance.rewrites`), so that a
write is not followed by a rewrite that gains nothing. What is done is done by the table's engine as
an operation of its own: the write is there, whatever becomes of this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import pyarrow as pa
from deltalake import Schema
from sqlglot import exp

from raylake.delta.schema import arrow_schema
from raylake.errors import RayLakeError
from raylake.maintenance.actions import Action
from raylake.maintenance.debt import Measured
from raylake.maintenance.plan import Looked, look
from raylake.maintenance.policy import Policy
from raylake.maintenance.rewrites import Found, compactions, zorders
from raylake.tables.expressions import quoted
from raylake.tables.results import OperationResult
from raylake.tables.routing import EngineChoice
from raylake.tables.service import TableService
from raylake.tables.upkeep_requests import Compact, ZOrder

log = logging.getLogger(__name__)

_LISTED: Final = 16
"""Of more partitions than this the whole table is taken."""


@dataclass(frozen=True, slots=True)
class AfterWrite:
    """What follows a write to a table.

    Attributes:
        what: ``compact``: small files become larger ones. ``zorder``: what has decayed is laid
            along the curve, too.
        policy: From when on which is worth it; its ``zorder`` has the columns.
    """

    what: Literal["compact", "zorder"]
    policy: Policy

    @classmethod
    def of(cls, request: Compact | ZOrder) -> AfterWrite:
        """What a request would do, wherever it is worth it by the defaults of upkeep."""
        target = request.target_file_bytes
        if isinstance(request, ZOrder):
            return cls("zorder", Policy(target_file_bytes=target, zorder=tuple(request.columns)))
        return cls("compact", Policy(target_file_bytes=target))

    def __call__(self, tables: TableService, address: str, engine: EngineChoice) -> str:
        """Do what is worth it; in words what was done, what was let be and why, or what failed.

        Args:
            tables: Writes.
            address: The table.
            engine: By which engine.
        """
        try:
            requests, why = worth(address, self)
            told = [_told(tables.execute(address, one, engine=engine)) for one in requests]
        except RayLakeError as error:
            log.warning(
                "%s: the write is done, its files were not put in order: %s", address, error
            )
            return f"the write is done, its files were not put in order: {error.message}"
        text = "; ".join([*told, *why])
        log.info("%s: after a write: %s", address, text or "nothing to do")
        return text


def worth(address: str, wanted: AfterWrite) -> tuple[list[Compact | ZOrder], list[str]]:
    """The operations that gain something, and why others would not.

    Args:
        address: The table.
        wanted: What may follow.

    Raises:
        RayLakeError: As :func:`~raylake.maintenance.plan.look`.
    """
    policy = wanted.policy
    if wanted.what == "compact":
        policy = replace(policy, zorder=())
    seen = look(address, policy)
    found = Found()
    zorders(seen.found, policy, found)
    compactions(seen.found, policy, found)
    why = [f"no {one.kind}: {one.reason}" for one in found.refusals]
    requests: list[Compact | ZOrder] = []
    curves, too_large = _within_cap(seen.found, policy, found.actions)
    if curves:
        where = _where(seen, curves)
        requests.append(ZOrder(policy.zorder, where, policy.target_file_bytes))
    elif any(one.kind == "compact" for one in found.actions):
        # After a Z-order no small files are left to it; a later write sees to other partitions.
        requests.append(Compact(None, policy.target_file_bytes))
    return requests, why + too_large


def _within_cap(
    found: Measured, policy: Policy, actions: Sequence[Action]
) -> tuple[list[Mapping[str, str | None]], list[str]]:
    """Partitions to be Z-ordered, which is done to one as a whole; and those too large for it."""
    wanted = [one.partition or {} for one in actions if one.kind == "zorder"]
    chosen, too_large = [], []
    for at, values in enumerate(found.values):
        if values not in wanted:
            continue
        size = int(found.sizes[found.of(at)].sum())
        if size > policy.max_job_bytes:
            text = f"no zorder: a partition of {size:,} bytes is more than a job's cap of "
            too_large.append(f"{text}{policy.max_job_bytes:,}: `raylake maintain` does parts of it")
        else:
            chosen.append(values)
    return chosen, too_large


def _where(seen: Looked, partitions: Sequence[Mapping[str, str | None]]) -> str | None:
    """A condition that the partitions meet, and as few others as can be said plainly."""
    if len(partitions) > _LISTED or not seen.state.metadata.partition_columns:
        return None
    schema = arrow_schema(Schema.from_json(seen.state.metadata.schema_json))
    parts = [
        [_equals(schema.field(name), text) for name, text in values.items()]
        for values in partitions
    ]
    if any(not all(one) for one in parts):
        return None
    return " OR ".join(f"({' AND '.join(one)})" for one in parts)


def _equals(field: pa.Field, text: str | None) -> str:
    """That a partition column has a value; empty where its type is not plain to write."""
    name = quoted(field.name)
    if not text:
        return f"{name} IS NULL"
    if pa.types.is_string(field.type):
        return f"{name} = {exp.Literal.string(text).sql()}"
    if pa.types.is_date(field.type):
        return f"{name} = date {exp.Literal.string(text).sql()}"
    return f"{name} = {text}" if pa.types.is_integer(field.type) else ""


def _told(done: OperationResult) -> str:
    if not done.changed:
        return f"no {done.operation}: {done.note}"
    files = done.files
    return f"{done.operation}: {files.removed:,} files became {files.added:,}, by {done.engine}"
