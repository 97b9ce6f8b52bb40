"""A table's owner, put together from a run's plan."""

from __future__ import annotations

import pyarrow as pa

from raylake.clock import Clock
from raylake.delta.dead_letters import app_of, dead_letter_spec
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.metadata import last_metadata
from raylake.delta.opening import open_or_create, refuse_claim
from raylake.delta.owned_table import OwnedTable
from raylake.delta.reading import readable
from raylake.delta.schema import arrow_schema
from raylake.delta.txn_listing import admitted_partitions
from raylake.errors import Refused, SchemaConflict
from raylake.ingest.moments import Moments
from raylake.ingest.owner_loop import OwnerLoop
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.policies import retry_policy, stores, watermark_policy
from raylake.ingest.ports import DeadLetterPort
from raylake.ingest.setups import OwnerSetup
from raylake.ingest.watermark import Watermark, WatermarkPolicy, is_event_time


def claim(run: RunPlan, replaces: str = "") -> Claim:
    """By what right a run takes a table, from an owner that is gone or from whoever has it."""
    return Claim(None if run.take_over else run.config.ingest.takeover_after_s, replaces)


def prepare_table(setup: OwnerSetup, clock: Clock) -> str:
    """Open or create the table, without taking its epoch; the table's id names its owner.

    Raises:
        Refused: Another pipeline owns it, or what :func:`open_or_create` refuses.
        DependencyUnreachable: The store cannot be read or written.
    """
    pipeline = setup.run.config.pipeline
    identity = OwnerIdentity.of_this_process(pipeline, setup.run.run_id)
    refuse_columns(setup.table, setup.spec.schema)
    table = open_or_create(setup.spec, identity, clock)
    refuse_columns(setup.table, arrow_schema(table.schema()))
    with readable(setup.spec.root):
        holders = {name for name, _ in admitted_partitions(setup.spec.root)} - {pipeline}
        newest = last_metadata(setup.spec.root) or {}
    last = newest.get("identity", {}).get("pipeline", pipeline)
    # An owner of table operations has no pipeline.
    if not holders and last and last != pipeline:
        holders = {last}
    if holders:
        raise Refused(
            f"{setup.table.name}: the table at {setup.spec.path} belongs to pipeline "
            f"{min(holders)!r}, not to {pipeline!r}",
            hint="one pipeline owns a table, any may read it: give this one another path",
            pipeline=min(holders),
        )
    return str(table.metadata().id)


def refuse_columns(table: TablePlan, schema: pa.Schema) -> None:
    """Refuse a table in which the event time or a day to partition by is none.

    An inferred schema, or the table itself, may have made something else of the column.

    Args:
        table: As the file says.
        schema: The whole schema; without a payload when only the table itself knows it.

    Raises:
        SchemaConflict: The column is of another type, or a column to partition by is not there.
    """
    _refuse_event_time(table, schema)
    if not len(table.shape.payload(schema)):
        return
    for one in table.shape.derived:
        kind = schema.field(one.column).type if one.column in schema.names else None
        if kind is None or not pa.types.is_temporal(kind):
            found = "is not a column" if kind is None else f"is a {kind}"
            raise SchemaConflict(
                f"{table.name}: partition_by {one.transform}({one.column}): {one.column!r} {found} "
                "of this table; days and hours are those of a timestamp or a date",
                hint=f"a table that is not there yet: give it a `schema` with `{one.column}: "
                "timestamp`; else partition by another column, or by `date(_timestamp)`",
            )


def _refuse_event_time(table: TablePlan, schema: pa.Schema) -> None:
    rule = table.config.event_time
    if rule is None or rule.column not in schema.names:
        return
    kind = schema.field(rule.column).type
    if not is_event_time(kind):
        raise SchemaConflict(
            f"{table.name}: event_time.column {rule.column!r} is a {kind} in this table; an event "
            "time is a timestamp, a date or a long (milliseconds since the epoch)",
            hint=f"a table that is not there yet: give it a `schema` with `{rule.column}: "
            "timestamp`; else choose another column, or leave event_time out",
        )


def attach_owner(setup: OwnerSetup, clock: Clock) -> OwnedTable:
    """Open or create the table and take its epoch; raises as :meth:`OwnedTable.attach`."""
    config = setup.run.config
    return OwnedTable.attach(
        setup.spec,
        OwnerIdentity.of_this_process(config.pipeline, setup.run.run_id),
        clock=clock,
        durability=config.ingest.durability,
        claim=claim(setup.run, setup.replaces),
        conflicts=retry_policy(config, "conflicts"),
    )


def build_owner_loop(
    setup: OwnerSetup,
    table: OwnedTable,
    dead_letters: DeadLetterPort,
    clock: Clock,
) -> OwnerLoop:
    """The owner's loop, with the dead letters that an earlier owner left undone queued (I5)."""
    watermark = Watermark(watermark_policy(setup.table) or WatermarkPolicy(), clock)
    watermark.restore(
        table.watermark_ms, {s: state.max_event_ms for s, state in table.states().items()}
    )
    loop = OwnerLoop(
        table,
        dead_letters,
        watermark,
        checkpointer=table.checkpointer(setup.run.config.ingest.checkpoint_interval_commits),
        stores=stores(
            setup.run.config,
            clock,
            setup.run.earlier.owners.get(setup.table.name, {}),
            table.retries,
        ),
        clock=clock,
        moments=Moments(setup.table.name, setup.table.config.commit_interval_s),
    )
    loop.count_files(table.count_live_files())
    loop.redo(stored_version(setup.run, table.table_id, clock))
    return loop


def stored_version(run: RunPlan, table_id: str, clock: Clock) -> int:
    """Make sure that there is a dead-letter table, and read how far it has a table's letters.

    Without taking its epoch, so that the dead-letter queue need not run for it. A queue of an
    earlier run that still adds some makes the answer too small, never too large; what the queue is
    given twice it adds once.

    Args:
        run: The run.
        table_id: The data table.
        clock: Time.

    Returns:
        The data version up to which its dead letters are stored; -1 for none.

    Raises:
        AlreadyRunning: Another pipeline that may be alive owns the dead-letter table.
        RayLakeError: What :func:`open_or_create` raises.
    """
    spec = dead_letter_spec(run.dead_letters)
    identity = OwnerIdentity.of_this_process(run.config.pipeline, run.run_id)
    table = open_or_create(spec, identity, clock)
    with readable(spec.root):
        last = last_metadata(spec.root) or {}
        stored = table.transaction_version(app_of(table_id))
    if OwnerIdentity.from_json(last.get("identity") or {}).pipeline != identity.pipeline:
        refuse_claim(spec.root, identity, claim(run), last, clock.now())
    return -1 if stored is None else int(stored)
