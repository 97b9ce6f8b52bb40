"""The dead-letter table of a pipeline that does not run, brought to where its tables are (I5)."""

from __future__ import annotations

from raylake.client.quiet_tables import refuse_living_owner
from raylake.clock import Clock
from raylake.config import Pipeline
from raylake.delta.dead_letters import DeadLetterTable
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.log_reader import LogReader
from raylake.delta.pending import pending_dead_letters
from raylake.delta.withdrawing import is_behind
from raylake.ingest.plan import new_run_id
from raylake.storage.place import Place, place


def settle_letters(config: Pipeline, root: Place, letters: str | None, clock: Clock) -> None:
    """Let the dead-letter table do what a data table's commits ask of it; mostly nothing.

    Args:
        config: The pipeline.
        root: The data table's folder.
        letters: The dead-letter table's folder; None where there is none.
        clock: Time.

    Raises:
        AlreadyRunning: Its owner lives, or may.
        RayLakeError: Why it was not done; whoever comes next does it.
    """
    table_id = LogReader(str(root)).snapshot().metadata.id
    if letters is None or not is_behind(letters, str(root), table_id):
        return
    refuse_living_owner(place(letters))
    table = DeadLetterTable.attach(
        letters,
        OwnerIdentity.of_this_process(config.pipeline, new_run_id()),
        clock=clock,
        durability=config.ingest.durability,
        claim=Claim(config.ingest.takeover_after_s),
    )
    try:
        table.redo(table_id, pending_dead_letters(root, table.stored_version(table_id)))
    finally:
        table.release()
