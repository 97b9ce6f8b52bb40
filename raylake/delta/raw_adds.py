"""The ``add`` actions of a version, whole, as its log has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylake.delta.log_reader import LogReader
from raylake.delta.txn_listing import checkpoint_files
from raylake.storage.place import Place, open_input

_KEPT = ("path", "partitionValues", "size", "stats", "deletionVector")


def raw_adds(root: Place, version: int) -> dict[str, dict[str, Any]]:
    """Path, partition values, size, statistics and deletion vector of each live file, by path.

    Raises:
        LogDamaged: The log does not lead to the version.
    """
    reader = LogReader(str(root))
    # Which checkpoint is sound and leads there is known to the one who replays the log.
    base = reader.snapshot(version).checkpoint
    found: dict[str, dict[str, Any]] = {}
    if base is not None:
        for file in checkpoint_files(root, base):
            with open_input(file) as opened, pq.ParquetFile(opened) as parquet:
                for batch in parquet.iter_batches(columns=[f"add.{name}" for name in _KEPT]):
                    found.update(_of_batch(batch))
    for commit in reader.commits(0 if base is None else base + 1, version):
        for one in commit.removes():
            found.pop(one["path"], None)
        for one in commit.adds():
            found[one["path"]] = _kept(one)
    return found


def _of_batch(batch: pa.RecordBatch) -> dict[str, dict[str, Any]]:
    adds = batch.column("add")
    valid = adds.filter(pc.is_valid(pc.struct_field(adds, "path")))
    return {one["path"]: _kept(one) for one in valid.to_pylist()}


def _kept(add: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: add[name] for name in _KEPT if add.get(name) is not None}
    kept["partitionValues"] = dict(add.get("partitionValues") or {})
    vector = add.get("deletionVector") or {}
    vector = {name: value for name, value in vector.items() if value is not None}
    if vector:
        kept["deletionVector"] = vector
    else:
        kept.pop("deletionVector", None)
    return kept
