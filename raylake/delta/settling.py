"""What became of a slot whose owner is gone, once another owner's epoch is in the log."""

from __future__ import annotations

from raylake.delta import log_files
from raylake.delta.ledger import OWNER_APP
from raylake.delta.owner_slots import Grant, Verdict
from raylake.delta.reading import readable
from raylake.storage.place import Place


def settled_in_log(root: Place, grant: Grant) -> Verdict:
    """The verdict on a slot, after a newer epoch was committed: nothing of it lands any more.

    Raises:
        LogDamaged, DependencyUnreachable: The log cannot be read.
    """
    with readable(root):
        version = log_files.find_foreign_txn(root, OWNER_APP, grant.number, grant.base_version)
    return Verdict(grant.request, version)
