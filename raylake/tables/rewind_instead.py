"""What to do instead of restoring a table whose log counts what its pipeline reads."""

from __future__ import annotations

import shlex
from typing import Final

from raylake.delta.positions_then import Positions, positions_at
from raylake.errors import RayLakeError
from raylake.ingest.unit import SourcePartition
from raylake.storage.place import Place
from raylake.tables.errors import OwnerOnly
from raylake.tables.requests import Restore
from raylake.tables.versions import Versions

MAX_LISTED: Final = 20
"""More partitions than this are not listed: the version says the same."""
_TOGETHER: Final = "`raylake rewind` moves rows and positions back together, in one commit"


def refuse_restore(root: Place, request: Restore, what: str) -> OwnerOnly:
    """The refusal of a restore, with the command that does what was meant.

    Args:
        root: A table that a pipeline feeds.
        request: The restore.
        what: What its log counts.
    """
    return OwnerOnly(
        f"{root}: the table's log counts {what}: a restore would bring rows back, or take "
        "them away, that the positions in its log count",
        hint=f"{_TOGETHER}{_command(root, request)}",
    )


def _command(root: Place, request: Restore) -> str:
    if request.version is None and request.at is None:
        return ""
    try:
        version = Versions(root).resolve(request.version, request.at)
        found = positions_at(str(root), version)
    except RayLakeError as error:
        return f"; but {error.message}"
    if not found.pipelines:
        return ""
    if not found.back:
        return f"; at version {version} it stood where it stands now, so there is nothing to do"
    to = _offsets(found) or [f"version:{version}"]
    words = ["raylake", "rewind", "FILE", f"bronze.{root.name}"]
    words += [word for one in to for word in ("--to", one)]
    pipeline = ", ".join(map(repr, found.pipelines))
    return (
        f", here, with the file of pipeline {pipeline} and the table's name in it, to where it "
        f"stood at version {version}: `{shlex.join([*words, '--replace'])}`; the next run reads "
        "on from there"
    )


def _offsets(found: Positions) -> list[str]:
    """The positions as a command line has them; none where they are many, or not to be told apart.

    Of a topic that was created again the ids differ, and a command line has names.
    """
    names = {(source.topic, source.partition) for source in found.back}
    if len(names) < len(found.back) or len(names) > MAX_LISTED:
        return []
    return [_position(source, end) for source, end in sorted(found.back.items())]


def _position(source: SourcePartition, end: int) -> str:
    return f"{source.topic}[{source.partition}]={end}"
