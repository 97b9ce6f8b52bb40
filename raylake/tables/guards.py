"""What may be done to a table at all, for every engine the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raylake.delta.ledger import OWNER_APP
from raylake.storage.place import Place
from raylake.tables.errors import AppendOnlyTable, BadRequest, OwnerOnly
from raylake.tables.fencing import refuse_accounted, refuse_closed
from raylake.tables.port import Fence
from raylake.tables.requests import Advance, Append, Create, Upsert, Write
from raylake.tables.upkeep_requests import Upkeep


def refuse_write(
    root: Place,
    operation: Write,
    configuration: Mapping[str, str],
    number_of: Callable[[str], int | None],
    fence: Fence | None,
) -> None:
    """Refuse an operation that the table's owner or its properties do not let through.

    Args:
        root: The table.
        operation: What is to be done.
        configuration: The table's properties.
        number_of: The number of an app id in the table's log, at the version that it is to be
            applied to.
        fence: The slot's number; None without a slot.

    Raises:
        OwnerOnly: The table has an owner and there is no slot, or only its owner may do this.
        SlotClosed: The slot is over.
        AppendOnlyTable: It changes rows, and the table lets nobody do that.
    """
    stored = number_of(OWNER_APP)
    if stored is not None:
        refuse_accounted(root, configuration, operation)
        if fence is None:
            raise OwnerOnly(
                f"{root}: the table has an owner ({OWNER_APP}), which orders what is written to it",
                hint="go through the owner: `raylake.connect(lake=…, address=…)` does, on its Ray "
                "cluster",
            )
    if fence is not None:
        known = stored if fence.app_id == OWNER_APP else number_of(fence.app_id)
        refuse_closed(root, fence, None if known is None else int(known))
    if configuration.get("delta.appendOnly") == "true" and not _only_adds(operation):
        raise AppendOnlyTable(
            f"{root}: the table is append-only (delta.appendOnly): no row may be changed or leave",
            hint="append, or take the property off the table",
        )


def refuse_slot(root: Place, fence: Fence | None) -> None:
    """Refuse a slot's number for what makes a new table: there is no log yet to hold it.

    Raises:
        BadRequest: One is given.
    """
    if fence is not None:
        raise BadRequest(f"{root}: a table that is not there yet has no owner, and no slot")


def rules(configuration: Mapping[str, str], required: Sequence[str]) -> str:
    """What rows of a table must fulfil, for messages.

    Args:
        configuration: The table's properties.
        required: Its columns that are NOT NULL.
    """
    names = sorted(
        f"{key.removeprefix('delta.constraints.')} ({text})"
        for key, text in configuration.items()
        if key.startswith("delta.constraints.")
    )
    nulls = [f"{name} NOT NULL" for name in required]
    return ", ".join((*names, *nulls, "or the condition that they replace"))


def _only_adds(operation: Write) -> bool:
    if isinstance(operation, Upsert):
        return operation.insert_only and operation.not_matched_by_source is None
    # Rows that are written anew as they are stay (Delta protocol, append-only tables).
    return isinstance(operation, Append | Advance | Create | Upkeep)
