"""What steps ask of a source's log again and again, read once and brought up to date.

A log is what it was while the commit that was the newest is the same file; then only the commits
after that one are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Schema

from raylake.delta import log_files
from raylake.delta.log_files import FileMark
from raylake.delta.log_reader import LogReader, TableMetadata, metadata_of
from raylake.delta.schema import arrow_schema
from raylake.storage.place import Place
from raylake.tables.delta_rs_open import opened
from raylake.tables.landing import operation_metadata

_LOOK_BACK: Final = 256
"""In so many versions a watermark is looked for; every commit of ingestion says it."""
Actions = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What a log said up to a version, and which file that version was.

    Attributes:
        version: The version.
        mark: Its commit's file.
        metadata: The table's metadata then; None: not asked for yet.
        looked: Whether a watermark was looked for.
        said: The version that said one last, and what; None: none of the last ones did.
    """

    version: int
    mark: FileMark
    metadata: TableMetadata | None = None
    looked: bool = False
    said: tuple[int, int | None] | None = None


_known: Final[dict[str, _Known]] = {}


def metadata_at(root: Place, version: int) -> TableMetadata:
    """A table's metadata at a version.

    Raises:
        NotOurTable, LogDamaged, UnsupportedTable: As :meth:`LogReader.snapshot`.
    """
    known = _up_to(root, version)
    if known is not None and known.metadata is not None:
        return known.metadata
    found = LogReader(str(root)).snapshot(version).metadata
    _keep(root, version, metadata=found)
    return found


def schema_at(root: Place, version: int) -> pa.Schema:
    """The columns that a table had at a version; raises as :func:`metadata_at`."""
    return arrow_schema(Schema.from_json(metadata_at(root, version).schema_json))


def live_rows(root: Place, version: int) -> int | None:
    """How many rows a table has at a version; None where its log does not say, or it is none."""
    if version < 0:
        return None
    files = opened(root, version).get_add_actions()
    counts = pa.table(files).column("num_records")
    return None if counts.null_count else int(pc.sum(counts).as_py() or 0)


def watermark_of(root: Place, version: int) -> int | None:
    """A table's watermark at a version, ms since the epoch; None: it has none.

    It is in the newest commit that says one: of ingestion, or of a derived table.
    """
    known = _up_to(root, version)
    if known is None or not known.looked:
        said = _looked_for(root, version)
        _keep(root, version, looked=True, said=said)
    else:
        said = known.said
    return None if said is None or said[0] <= version - _LOOK_BACK else said[1]


def _looked_for(root: Place, version: int) -> tuple[int, int | None] | None:
    for one in range(version, max(-1, version - _LOOK_BACK), -1):
        actions = log_files.read_commit(root, one)
        if actions is None:
            return None
        found = _said(actions)
        if "watermark_ms" in found:
            return one, _number(found["watermark_ms"])
    return None


def _up_to(root: Place, version: int) -> _Known | None:
    """What is known, brought up to a version; None where nothing is known that leads to it."""
    known = _known.get(str(root))
    if known is None or known.version > version or _mark(root, known.version) != known.mark:
        return None
    metadata, said = known.metadata, known.said
    for one in range(known.version + 1, version + 1):
        actions = log_files.read_commit(root, one)
        if actions is None:
            return None
        changed = [action["metaData"] for action in actions if action.get("metaData")]
        metadata = metadata_of(changed[-1]) if changed else metadata
        found = _said(actions)
        if "watermark_ms" in found:
            said = one, _number(found["watermark_ms"])
    mark = known.mark if version == known.version else _mark(root, version)
    if mark is None:
        return None
    found_now = _Known(version, mark, metadata, known.looked, said)
    _known[str(root)] = found_now
    return found_now


def _keep(root: Place, version: int, **found: Any) -> None:
    """Keep what was read, beside what is known of the same version; never of an older one."""
    known, mark = _known.get(str(root)), _mark(root, version)
    if mark is None:
        return
    same = known is not None and (known.version, known.mark) == (version, mark)
    old = known is not None and known.version > version and _mark(root, known.version) == known.mark
    if old:
        return
    before = {name: getattr(known, name) for name in ("metadata", "looked", "said")} if same else {}
    _known[str(root)] = _Known(version, mark, **{**before, **found})


def _said(actions: Actions) -> Mapping[str, Any]:
    ours = log_files.our_metadata(actions) or {}
    return {**ours, **operation_metadata(log_files.commit_info(actions))}


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _mark(root: Place, version: int) -> FileMark | None:
    return log_files.mark(log_files.commit_path(root, version))
