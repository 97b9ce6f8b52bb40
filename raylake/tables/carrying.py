"""Whether and how a commit carries something beside its rows (:mod:`raylake.tables.alongside`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from deltalake import CommitProperties

from raylake.delta.ledger import OWNER_APP
from raylake.delta.log_commit import LogCommit, commit_after
from raylake.storage.place import Place
from raylake.tables.alongside import Alongside
from raylake.tables.errors import BadRequest, ProgressMoved
from raylake.tables.fencing import account
from raylake.tables.requests import (
    Advance,
    Append,
    Delete,
    Overwrite,
    Scd2,
    Update,
    Upsert,
    Write,
)

CARRIERS: Final = (Append, Overwrite, Upsert, Scd2, Delete, Update, Advance)
"""The operations whose commits carry something."""
NOTHING: Final = "no row changes: the version has what it carries alone"
_MINE: Final = frozenset({"batch", "operation"})
_MOST: Final = 2**63 - 1
_NAMES: Final[Mapping[type, str]] = {
    Upsert: "MERGE",
    Scd2: "MERGE",
    Delete: "DELETE",
    Update: "UPDATE",
    Advance: "ADVANCE",
}


def check_alongside(where: str, operation: Write, alongside: Alongside | None) -> None:
    """Refuse what no commit can carry, before anything is done.

    Args:
        where: The table's address.
        operation: What is done.
        alongside: What its commit is to carry; None: nothing.

    Raises:
        BadRequest: The operation carries nothing, or a txn or a key is not the caller's to set.
    """
    what = f"{where}: {type(operation).__name__.lower()}"
    if alongside is None:
        if isinstance(operation, Advance):
            raise BadRequest(
                f"{what}: there is nothing that its version is to carry",
                hint="give it an Alongside with txns or metadata",
            )
        return
    if not isinstance(operation, CARRIERS):
        names = ", ".join(one.__name__.lower() for one in CARRIERS)
        raise BadRequest(
            f"{what}: its commit carries nothing beside what it does (alongside)",
            hint=f"these can: {names}",
        )
    for app, version in alongside.txns.items():
        if app == OWNER_APP or account([app]):
            raise BadRequest(
                f"{what}: the txn {app!r} is its table owner's to set",
                hint="name another app id",
                app=app,
            )
        if not 0 <= version <= _MOST:
            raise BadRequest(f"{what}: the txn {app!r} cannot be {version}", app=app)
    if taken := sorted(_MINE & alongside.metadata.keys()):
        raise BadRequest(f"{what}: the key {taken[0]!r} of the metadata is taken", key=taken[0])
    try:
        json.dumps(dict(alongside.metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{what}: the metadata is no JSON: {error}") from None


def refuse_moved(
    root: Place, alongside: Alongside | None, number_of: Callable[[str], int | None]
) -> None:
    """Refuse a commit whose progress is not what it was computed from.

    Args:
        root: The table.
        alongside: What the commit is to carry.
        number_of: The version of an app id in the table's log, on the snapshot that the commit is
            to follow.

    Raises:
        ProgressMoved: Somebody else has brought the table further, or back; nothing was changed.
    """
    for app, wanted in alongside.expected.items() if alongside is not None else ():
        found = number_of(app)
        if found != wanted:
            raise ProgressMoved(
                f"{root}: {app} is {'not there yet' if found is None else found}, and this was "
                f"made for {'a table without it' if wanted is None else wanted}",
                hint="nothing was changed; read the table's progress again, and begin from there",
                app=app,
                expected=wanted,
                found=found,
            )


def commit_nothing(
    root: Place, version: int, operation: Write, properties: CommitProperties
) -> None:
    """Commit a version without a row's change after ``version``, or not at all.

    Args:
        root: The table.
        version: The version that it follows.
        operation: What there was nothing to do of.
        properties: What the commit carries.

    Raises:
        CommitFailedError: Another commit has that version.
        OSError: The log entry cannot be written.
    """
    name = _NAMES.get(type(operation), "WRITE")
    commit_after(root, version, LogCommit(name, ()).signed(properties))
