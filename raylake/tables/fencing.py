"""Whether an operation may write to a table that has an owner, and under which number (DESIGN §6).

A table with an owner has ``raylake/owner`` in its log. Who writes to it needs a slot of that owner;
where the log also counts what came from Kafka, nobody but the owner writes rows at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from raylake.delta.ledger import owner_epoch, parse_app_id
from raylake.delta.metadata import last_metadata
from raylake.delta.txn_listing import list_txns
from raylake.storage.place import Place
from raylake.tables.errors import OwnerOnly, SlotClosed
from raylake.tables.port import Fence
from raylake.tables.requests import Restore, Write
from raylake.tables.rewind_instead import refuse_restore
from raylake.tables.upkeep_requests import Rearrange

_DEAD_LETTERS: Final = "dead letters of other tables"
_LETTERS: Final = re.compile(r"raylake/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def refuse_closed(root: Place, fence: Fence, stored: int | None) -> None:
    """Refuse an operation whose slot is over.

    Args:
        root: The table.
        fence: The slot's number.
        stored: The number that the table has; None for none.

    Raises:
        SlotClosed: It is not the one before the slot's.
    """
    if stored is not None and stored == fence.number - 1:
        return
    if stored is not None and owner_epoch(stored) > owner_epoch(fence.number):
        raise SlotClosed(
            f"{root}: a newer owner has taken the table (epoch {owner_epoch(stored)}) since this "
            f"operation was given its slot (epoch {owner_epoch(fence.number)})",
            hint="nothing was written; ask the table's owner for a new slot",
            stored=stored,
            number=fence.number,
        )
    raise SlotClosed(
        f"{root}: the slot of this operation is over: {fence.app_id} is {stored}, the slot has "
        f"{fence.number}",
        hint="this attempt wrote nothing; whether an earlier one did, the table's history tells",
        stored=stored,
        number=fence.number,
    )


def refuse_accounted(root: Place, configuration: Mapping[str, str], operation: Write) -> None:
    """Refuse what would break the account that a table's log keeps of its rows.

    Args:
        root: A table that has an owner.
        configuration: Its properties.
        operation: What is asked for.

    Raises:
        OwnerOnly: The log counts these rows; the message says what counts them.
    """
    # Where rows are only rearranged they stay as they are, and so does the account.
    if isinstance(operation, Rearrange):
        return
    what = _counted(root, configuration)
    if not what:
        return
    if isinstance(operation, Restore):
        raise refuse_restore(root, operation, what)
    raise OwnerOnly(
        f"{root}: the table's log counts {what}: rows that come or leave otherwise would break "
        "the account",
        hint="on a Ray cluster the table's owner changes and deletes rows: "
        "raylake.connect(lake=…, tables=RayTables()); else write to a table of your own",
    )


def is_fed(root: Place, configuration: Mapping[str, str]) -> bool:
    """Whether a pipeline feeds a table, so that only the pipeline's owner commits to it.

    Args:
        root: A table.
        configuration: Its properties.

    Raises:
        OwnerOnly: It holds the dead letters of other tables, which nobody else changes.
    """
    what = _counted(root, configuration)
    if what == _DEAD_LETTERS:
        raise OwnerOnly(
            f"{root}: the table's log counts {what}: the dead-letter queue writes it alone",
            hint="nothing was changed; read from it, and write to a table of your own",
        )
    return bool(what)


def _counted(root: Place, configuration: Mapping[str, str]) -> str:
    """What the log of a table counts its rows by; empty for nothing."""
    what = account(list_txns(root))
    if not what and configuration.get("delta.appendOnly") == "true":
        holder = (last_metadata(root) or {}).get("identity") or {}
        return f"what pipeline {holder['pipeline']!r} reads" if holder.get("pipeline") else ""
    return what


def account(txns: Iterable[str]) -> str:
    """What a table's rows are counted by, from the app ids in its log; empty for nothing."""
    topics = set()
    for text in txns:
        parsed = parse_app_id(text)
        if parsed is not None:
            topics.add(parsed.source.topic)
        elif _LETTERS.fullmatch(text):
            return _DEAD_LETTERS
    if topics:
        return f"the offsets of topic {min(topics)!r}" + (
            " and others" if topics - {min(topics)} else ""
        )
    return ""
