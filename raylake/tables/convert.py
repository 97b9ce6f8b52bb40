"""Parquet folders that become Delta tables where they are, and back."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from raylake.delta import log_files
from raylake.delta.log_commit import LogCommit, add_line, new_metadata_line
from raylake.delta.partition_values import log_path
from raylake.delta.protocols import new_protocol
from raylake.delta.schema import delta_schema
from raylake.delta.stats import float_leaves, footer_stats, leaves
from raylake.ingest.unit import DataFile
from raylake.storage.place import Place
from raylake.tables.clone import Made
from raylake.tables.errors import TableExists, TableMissing, WriteConflict
from raylake.tables.filling import first_commit, refuse_filled
from raylake.tables.first_versions import first_info, unmake
from raylake.tables.parquet_folder import ParquetFolder, parquet_folder
from raylake.tables.rewrite_parts import write_options
from raylake.tables.table_properties import check_properties
from raylake.tables.upkeep_requests import Convert

OPERATION: Final = "CONVERT"


def convert(root: Place, request: Convert) -> Made:
    """Give a folder of Parquet files a log; no file is changed, and it is a table at once.

    Raises:
        TableExists: It is a table already.
        FolderTaken: A clone or a migration fills it.
        FilesRefused, SchemaMismatch, BadColumnName: It cannot be one; naming the files.
    """
    if log_files.commit_versions(root) or log_files.checkpoint_versions(root):
        raise TableExists(f"{root} is a Delta table already", hint="there is nothing to convert")
    refuse_filled(root)
    check_properties(request.properties, f"{root}: convert")
    folder = parquet_folder(root, request.partition_by, cast=False)
    properties = dict(request.properties)
    schema_json = delta_schema(folder.schema).to_json()
    metadata = new_metadata_line(schema_json, folder.partitions.names, properties)
    actions = [new_protocol(properties, schema_json), metadata, *_adds(folder, properties)]
    parameters = {
        "numFiles": str(len(folder.parts)),
        "partitionedBy": json.dumps(folder.partitions.names),
    }
    first_commit(root, LogCommit(OPERATION, actions, parameters))
    note = "the files are as they were; `roll_back_conversion` takes the log away again"
    return Made(folder.rows, len(folder.parts), folder.size_bytes, note)


def roll_back_conversion(address: Place) -> None:
    """Make a folder of Parquet files again of a table that was converted and not changed since.

    Raises:
        TableMissing: It is no table.
        WriteConflict: It was not made by a conversion, or has been written to since.
        LogDamaged, DependencyUnreachable: Its first commit cannot be read.
    """
    info = first_info(address)
    versions = log_files.commit_versions(address)
    if info is None or not versions:
        raise TableMissing(f"{address} holds no Delta table", path=str(address))
    if versions != [0] or info.get("operation") != OPERATION:
        raise WriteConflict(
            f"{address}: version {versions[-1]} is not a conversion's: there is more in the log "
            "than the files say",
            hint="clone the table, or copy its rows out; nothing was changed",
        )
    unmake(address)


def _adds(folder: ParquetFolder, properties: dict[str, str]) -> list[dict[str, Any]]:
    """The files, with statistics from their footers.

    Footers do not tell of NaN, which may lie beside a bound of theirs: floats have no bounds.
    """
    columns = write_options(properties, folder.stored, 1).stats_columns
    found = []
    for one in folder.parts:
        file = DataFile(
            path=log_path(one.path),
            size_bytes=one.size_bytes,
            rows=one.footer.num_rows,
            partition_values={name: one.values[name] or None for name in folder.partitions.names},
            stats=footer_stats(one.footer, leaves(one.schema), float_leaves(one.schema), columns),
        )
        found.append(add_line(file, time.time(), data_change=True))
    return found
