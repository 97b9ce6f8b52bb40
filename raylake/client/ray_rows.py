"""Rows of a table as a Ray dataset: files are read where Ray puts the tasks, not here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa

from raylake.client.cluster import join
from raylake.errors import ConfigError
from raylake.storage.access import also_use_stores, stores_from_json, used_stores
from raylake.storage.place import place
from raylake.tables.data_files import FileScan, LiveFile, read_file
from raylake.tables.delta_rs_reads import changes, read
from raylake.tables.requests import Changes, Read

BLOCK_BYTES: Final = 32 * 1024 * 1024
"""Rows are handed to Ray in blocks of about so many bytes."""
_GROWTH: Final = 4
"""What a compressed byte of a file grows to in memory; an estimate for Ray's plan."""


def dataset_of_files(scan: FileScan, files: Sequence[LiveFile], address: str | None) -> Any:
    """A dataset of one version: a task reads one file, or several where they are many.

    Args:
        scan: How the files are read.
        files: The files.
        address: The Ray cluster; None: what is there, or an embedded one.
    """
    data = _ray_data(address)
    if not files:
        return data.from_arrow(scan.wanted.empty_table())
    stores = used_stores()

    class VersionFiles(data.Datasource):  # type: ignore[name-defined,misc]
        """The files of one version of a table."""

        def get_name(self) -> str:
            """What Ray calls it in its plans."""
            return f"RayLake({scan.table}@{scan.version})"

        def estimate_inmemory_data_size(self) -> int:
            """Bytes, as an estimate."""
            return sum(one.size_bytes for one in files) * _GROWTH

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[Any]:
            """One task for a file; several files for one where Ray wants fewer tasks."""
            del data_context
            return [
                data.datasource.ReadTask(
                    partial(_blocks_of_files, scan, group, stores),
                    _about(data, scan, group),
                    schema=scan.wanted,
                    per_task_row_limit=per_task_row_limit,
                )
                for group in grouped(files, max(1, parallelism))
            ]

    return data.read_datasource(VersionFiles(), override_num_blocks=len(files))


def dataset_of_rows(table: str, request: Read | Changes, address: str | None) -> Any:
    """A dataset that one task streams through the engine.

    Args:
        table: The table's address.
        request: What is read; a read names its version.
        address: As for :func:`dataset_of_files`.
    """
    data = _ray_data(address)
    stores = used_stores()

    class VersionRows(data.Datasource):  # type: ignore[name-defined,misc]
        """The rows of a request."""

        def get_name(self) -> str:
            """What Ray calls it in its plans."""
            return f"RayLake({table})"

        def estimate_inmemory_data_size(self) -> int | None:
            """Nobody knows."""
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[Any]:
            """The one task."""
            del parallelism, data_context
            metadata = data.block.BlockMetadata(
                num_rows=None, size_bytes=None, exec_stats=None, input_files=None
            )
            return [
                data.datasource.ReadTask(
                    partial(_blocks_of_rows, table, request, stores),
                    metadata,
                    per_task_row_limit=per_task_row_limit,
                )
            ]

    return data.read_datasource(VersionRows(), override_num_blocks=1)


def dataset_of_table(rows: pa.Table, address: str | None) -> Any:
    """A dataset of rows that are here already; ``address`` as for :func:`dataset_of_files`."""
    return _ray_data(address).from_arrow(rows)


def dataset_of_pieces(
    pieces: Sequence[Any], choose: Callable[[pa.Table], pa.Table], address: str | None
) -> Any:
    """A dataset of rows that lie in the object store as Arrow tables.

    Args:
        pieces: References to them.
        choose: The rows and columns of a piece that are wanted; run by tasks.
        address: As for :func:`dataset_of_files`.
    """
    whole = _ray_data(address).from_arrow_refs(list(pieces))
    return whole.map_batches(choose, batch_size=None, batch_format="pyarrow")


def grouped(files: Sequence[LiveFile], groups: int) -> list[list[LiveFile]]:
    """Files by task, about the same size each: the largest first, each to the smallest group."""
    found: list[list[LiveFile]] = [[] for _ in range(min(groups, len(files)))]
    sizes = [0] * len(found)
    for one in sorted(files, key=lambda file: -file.size_bytes):
        at = sizes.index(min(sizes))
        found[at].append(one)
        sizes[at] += one.size_bytes + 1
    return found


def _about(data: Any, scan: FileScan, group: Sequence[LiveFile]) -> Any:
    rows = [one.rows for one in group]
    known = None if scan.where or None in rows else sum(one or 0 for one in rows)
    return data.block.BlockMetadata(
        num_rows=known,
        size_bytes=sum(one.size_bytes for one in group) * _GROWTH,
        exec_stats=None,
        input_files=tuple(one.path for one in group),
    )


def _blocks_of_files(
    scan: FileScan, files: Sequence[LiveFile], stores: Mapping[str, Any]
) -> Iterator[pa.Table]:
    also_use_stores(stores_from_json(stores))
    batches = (batch for file in files for batch in read_file(scan, file))
    yield from blocks_of(batches, scan.wanted)


def _blocks_of_rows(
    table: str, request: Read | Changes, stores: Mapping[str, Any]
) -> Iterator[pa.Table]:
    also_use_stores(stores_from_json(stores))
    root = place(table)
    found = read(root, request) if isinstance(request, Read) else changes(root, request)
    yield from blocks_of(found, found.schema)


def blocks_of(batches: Any, schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches put together to blocks; one without rows where there are none, for the columns."""
    held: list[pa.RecordBatch] = []
    size, some = 0, False
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= BLOCK_BYTES:
            yield pa.Table.from_batches(held, schema=schema)
            held, size, some = [], 0, True
    if held or not some:
        yield pa.Table.from_batches(held, schema=schema)


def _ray_data(address: str | None) -> Any:
    """Ray Data, with a cluster under it.

    Raises:
        ConfigError: Its packages are not installed, or the address is no driver's.
        DependencyUnreachable: No cluster answers.
    """
    join(address)
    try:
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"Ray Data cannot be used: {error}", hint="pip install 'raylake[readers]'"
        ) from error
    return ray.data
