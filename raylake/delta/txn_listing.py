"""Which txns a log holds: delta-rs answers by app id only and lists none."""

from __future__ import annotations

import re

import pyarrow.parquet as pq

from raylake.delta import log_files
from raylake.delta.ledger import parse_app_id
from raylake.errors import ConfigError, LogDamaged
from raylake.ingest.unit import SourcePartition
from raylake.storage.objects import StoreError
from raylake.storage.place import Place, names, open_input
from raylake.storage.reach import reading

_PART = re.compile(r"^\d{20}\.checkpoint\.(\d{10})\.(\d{10})\.parquet$")


def list_txns(table: Place, upto: int | None = None) -> dict[str, int]:
    """Every txn of a version: app id to version.

    Args:
        table: The table's folder.
        upto: The version; None for the newest.

    Raises:
        LogDamaged: A checkpoint or a log file cannot be read.
    """
    txns: dict[str, int] = {}
    floor = -1
    for version in reversed(log_files.checkpoint_versions(table)):
        files = checkpoint_files(table, version)
        if files and (upto is None or version <= upto):
            for file in files:
                txns.update(_checkpoint_txns(file))
            floor = version
            break
    for version in log_files.commit_versions(table):
        if version <= floor or (upto is not None and version > upto):
            continue
        for action in log_files.read_commit(table, version) or []:
            txn = action.get("txn")
            if txn:
                txns[str(txn["appId"])] = int(txn["version"])
    return txns


def foreign_txns(table: Place) -> dict[str, int]:
    """Every txn of a table that others write.

    Raises:
        ConfigError: There is no Delta table, or it may not be read.
        LogDamaged: The log cannot be read whole, so that a txn may be missing.
        DependencyUnreachable: The store does not answer.
    """
    with reading(table):
        commits = log_files.commit_versions(table)
        checkpoints = log_files.checkpoint_versions(table)
        if not commits and not checkpoints:
            raise ConfigError(f"{table}: is not a Delta table", hint="give the table's folder")
        whole = [version for version in checkpoints if checkpoint_files(table, version)]
        first = max(whole, default=-1) + 1
        gone = sorted(set(range(first, max(commits, default=-1) + 1)) - set(commits))
        if gone:
            raise LogDamaged(
                f"{table}: the log lacks version {gone[0]}, and no checkpoint that this release "
                "reads has it in it: what the table's job has committed cannot be told",
                hint="read: checkpoints of the classic kind, in one file or in parts. Write the "
                "offsets down and give them with --from offsets",
                version=gone[0],
            )
        return list_txns(table)


def admitted_partitions(table: Place) -> list[tuple[str, SourcePartition]]:
    """Pipeline and partition of every ``origin`` in the log, sorted."""
    found = set()
    for text in list_txns(table):
        parsed = parse_app_id(text)
        if parsed is not None and parsed.name == "origin":
            found.add((parsed.pipeline, parsed.source))
    return sorted(found)


def checkpoint_files(table: Place, version: int) -> list[Place]:
    """The files of a checkpoint, all parts; empty when it is incomplete."""
    folder = log_files.log_folder(table)
    whole = f"{version:020d}.checkpoint.parquet"
    found = sorted(n for n in names(folder) if n.startswith(f"{version:020d}.checkpoint."))
    if whole in found:
        return [folder / whole]
    parts = [name for name in found if name.endswith(".parquet")]
    numbers = [_PART.match(name) for name in parts]
    totals = {int(m.group(2)) for m in numbers if m}
    if len(totals) == 1 and len(parts) == totals.pop():
        return [folder / name for name in parts]
    return []


def _checkpoint_txns(file: Place) -> dict[str, int]:
    try:
        with open_input(file) as opened, pq.ParquetFile(opened) as parquet:
            if "txn" not in parquet.schema_arrow.names:
                return {}
            rows = parquet.read(columns=["txn"], use_threads=False).column("txn")
    except StoreError:
        # It does not answer now; that says nothing of the checkpoint.
        raise
    except (OSError, ValueError) as error:
        raise LogDamaged(
            f"{file}: the checkpoint cannot be read: {error}",
            hint="`raylake table repair` puts it aside where the JSON files of all its versions "
            "are still there; of a table that a pipeline feeds that is done by hand, while "
            "nothing runs: move it out of the log's folder",
            path=str(file),
        ) from error
    return {
        str(row["appId"]): int(row["version"])
        for row in rows.drop_null().to_pylist()
        if row["appId"] is not None
    }
