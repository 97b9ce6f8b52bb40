"""Operations that make no version of a table that is there: vacuum, checkpoint, clone, convert."""

from __future__ import annotations

from deltalake import DeltaTable

from raylake.clock import Clock
from raylake.storage.place import Place
from raylake.tables.checkpoints import put_damaged_aside, write_checkpoint
from raylake.tables.clone import clone
from raylake.tables.convert import convert
from raylake.tables.delta_rs_open import opened_for
from raylake.tables.errors import FeatureUnsupported
from raylake.tables.guards import refuse_slot
from raylake.tables.port import Fence
from raylake.tables.results import FileCounts, RowCounts
from raylake.tables.turns import Done
from raylake.tables.upkeep_requests import Apart, Checkpoint, Clone, Convert, Vacuum
from raylake.tables.vacuum import vacuum


def run_apart(root: Place, request: Apart, fence: Fence | None, clock: Clock) -> Done:
    """Run such an operation.

    Args:
        root: The table.
        request: What is asked for.
        fence: The slot's number; None without a slot.
        clock: Time.

    Raises:
        TableError, LogDamaged, DependencyUnreachable: As each of them says.
    """
    if isinstance(request, Vacuum):
        return _vacuum(root, request, fence, clock)
    if isinstance(request, Checkpoint):
        return _checkpoint(root, request, fence)
    refuse_slot(root, fence)
    if isinstance(request, Clone):
        made = clone(root, request)
    elif isinstance(request, Convert):
        made = convert(root, request)
    rows = RowCounts(source=made.rows, inserted=made.rows)
    files = FileCounts(added=made.files, added_bytes=made.size_bytes)
    return Done(-1, 0, rows, files, note=made.note)


def _opened(root: Place, request: Vacuum | Checkpoint, fence: Fence | None) -> DeltaTable:
    try:
        return opened_for(root, request, fence)
    except FeatureUnsupported as error:
        hint = "no engine of RayLake's does it to such a table; in Spark itself it can be done"
        raise FeatureUnsupported(error.message, hint=hint, **error.context) from None


def _vacuum(root: Place, request: Vacuum, fence: Fence | None, clock: Clock) -> Done:
    handle = _opened(root, request, fence)
    version = int(handle.version())
    found = vacuum(root, handle, request, clock.now())
    files = FileCounts(removed=len(found.paths), removed_bytes=found.size_bytes)
    note = found.note(dry_run=request.dry_run)
    return Done(version, version, files=files, note=note, paths=found.paths)


def _checkpoint(root: Place, request: Checkpoint, fence: Fence | None) -> Done:
    aside = put_damaged_aside(root) if request.repair else ()
    _opened(root, request, fence)
    found = write_checkpoint(root)
    notes = [f"put aside: {', '.join(aside)}"] if aside else []
    if not found.created:
        notes.append(f"version {found.version} has a checkpoint already")
    return Done(found.version, found.version, note="; ".join(notes), paths=aside)
