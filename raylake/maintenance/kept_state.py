"""A table's state kept in the lake, so that the next question reads the commits since, no more.

One Arrow file a table, ``<lake>/_raylake/debt/<layer>.<name>.arrow``, written whole. It can always
be computed again: one that is damaged, of another format or of another table is passed over.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from raylake.delta.log_reader import TableMetadata, TableProtocol
from raylake.maintenance.statistics import Ranged
from raylake.maintenance.table_state import Reading, TableState, rows_schema
from raylake.storage.place import Place, make_folder

FORMAT: Final = 2
FOLDER: Final = "_raylake/debt"
_KEY: Final = b"raylake"
_COMMITS: Final = 20
_FILES_A_COMMIT: Final = 10_000
_SHARE: Final = 0.1


def kept_at(lake: Place, table: str) -> Place:
    """Where a table's state is kept.

    Args:
        lake: The lake.
        table: ``layer.name``.
    """
    return lake / FOLDER / f"{table}.arrow"


def worth_keeping(state: TableState, reading: Reading) -> bool:
    """Whether a state should replace the kept one.

    To write all of it takes longer than to read some commits again: it is written once these are
    more than 20 and one for every 10,000 files, or changed a tenth of the files.
    """
    if reading.from_version is None:
        return True
    many = reading.commits > _COMMITS + len(state.rows) // _FILES_A_COMMIT
    return many or reading.changes > max(1, _SHARE * len(state.rows))


def keep(at: Place, state: TableState) -> None:
    """Put a state in place of the kept one; a reader sees the old one or the new one, whole.

    Raises:
        OSError: It cannot be written; the old one stays.
    """
    told = {
        "format": FORMAT,
        "version": state.version,
        "checkpoint": state.checkpoint,
        "mark": state.mark,
        "metadata": asdict(state.metadata),
        "protocol": asdict(state.protocol),
        "columns": [asdict(one) for one in state.columns],
        "notes": list(state.notes),
    }
    rows = state.rows.combine_chunks().replace_schema_metadata({_KEY: json.dumps(told).encode()})
    if not isinstance(at, Path):
        sink = pa.BufferOutputStream()
        _write(sink, rows)
        at.put(sink.getvalue().to_pybytes())
        return
    make_folder(at.parent)
    draft = at.with_name(f".{at.name}.{secrets.token_hex(8)}")
    try:
        with pa.OSFile(str(draft), "wb") as file:
            _write(file, rows)
        draft.replace(at)
    finally:
        draft.unlink(missing_ok=True)


def _write(sink: pa.NativeFile, rows: pa.Table) -> None:
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def kept(at: Place) -> TableState | None:
    """The kept state; None where there is none that this release can use."""
    try:
        source = (
            pa.memory_map(str(at)) if isinstance(at, Path) else pa.BufferReader(at.read_bytes())
        )
        rows = pa.ipc.open_file(source).read_all()
        return _state(rows, json.loads((rows.schema.metadata or {})[_KEY]))
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


def _state(rows: pa.Table, told: dict[str, Any]) -> TableState | None:
    if told["format"] != FORMAT:
        return None
    metadata = TableMetadata(
        **{**told["metadata"], "partition_columns": tuple(told["metadata"]["partition_columns"])}
    )
    protocol = told["protocol"]
    features = {key: tuple(protocol[key]) for key in ("reader_features", "writer_features")}
    columns = tuple(Ranged(**one) for one in told["columns"])
    rows = rows.replace_schema_metadata(None)
    if not rows.schema.equals(rows_schema(metadata, columns)):
        return None
    return TableState(
        int(told["version"]),
        told["checkpoint"],
        str(told["mark"]),
        metadata,
        TableProtocol(**{**protocol, **features}),
        columns,
        rows,
        tuple(told["notes"]),
    )
