"""What commits of derived tables tell for the tables beside them, and is not stored there yet."""

from __future__ import annotations

from raylake.clock import Clock
from raylake.config import Pipeline
from raylake.config.addresses import quality_path, quarantine_path
from raylake.delta.tables_there import is_table
from raylake.layers.graph import graph_of
from raylake.layers.table_ids import table_id
from raylake.quality import history, quarantine
from raylake.quality.side_table import Target
from raylake.storage.place import place


def store_what_is_told(config: Pipeline, clock: Clock) -> None:
    """Bring it into the quarantine and the history of rules; idempotent.

    Args:
        config: The pipeline.
        clock: Time.

    Raises:
        RayLakeError: Why it could not be stored.
    """
    set_aside = quarantine.quarantine_table(quarantine_path(config))
    found = history.history_table(quality_path(config))
    for node in graph_of(config).derived:
        if not is_table(node.address):
            continue
        target = Target(node.name, node.address, table_id(place(node.address)))
        quarantine.follow_up(set_aside, target, clock)
        history.follow_up(found, target, clock)
