"""Versions that a lake's cluster holds in its object store, as the lake's tables see them.

What talks to Ray lies in ``actors`` and is found by its name, as the service for writing is
(docs/adr/0035). Nothing here joins a cluster to read: a process that is on it looks there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, Protocol

import pyarrow as pa

from raylake.client.cluster import join
from raylake.client.cluster_tables import load_actors
from raylake.client.ray_rows import dataset_of_pieces
from raylake.errors import ConfigError
from raylake.tables.data_files import FileScan, chosen, scan_of_rows
from raylake.tables.errors import HoldingNeedsCluster
from raylake.tables.held_versions import HeldKey, HeldVersion
from raylake.tables.pins import Pin

CONNECTION: Final = "actors.held_tables"
"""The module whose ``on_cluster`` makes the connection."""
HELD_COLUMNS: Final = ("table", "version", "columns", "bytes", "rows", "last_used")


class Connection(Protocol):
    """The cluster's side; ``actors.held_tables.HeldTables`` is one."""

    def hold(self, table: tuple[str, str], key: HeldKey, limit_bytes: int | None) -> HeldVersion:
        """Read rows of a table, by its name and address, and hold them."""
        ...

    def find(self, asked: HeldKey) -> list[Any] | None:
        """References to the tables that hold the rows; None: they are not held."""
        ...

    def fetch(self, asked: HeldKey) -> list[pa.Table] | None:
        """Those tables; None: they are not held, or lost."""
        ...

    def release(self, table_id: str, version: int | None) -> list[HeldVersion]:
        """Let go of versions of a table."""
        ...

    def held(self) -> list[HeldVersion]:
        """What is held."""
        ...

    def end(self) -> None:
        """Let go of all."""
        ...


class HeldRows:
    """What is held of one lake.

    Args:
        lake: The lake's address.
        address: The Ray cluster; None: there is none.
        limit_bytes: The limit that this client wants; None: what there is, or the default.
    """

    def __init__(self, lake: str, address: str | None, limit_bytes: int | None = None) -> None:
        self._lake = lake
        self._address = address
        self._limit_bytes = limit_bytes
        self._made: Connection | None = None

    def hold(self, name: str, address: str, pin: Pin) -> HeldVersion:
        """Hold the columns of a pin; what is held already is not read again.

        Raises:
            HoldingNeedsCluster: The lake has no cluster.
            TooLargeToHold: The rows are larger than the limit.
            DependencyUnreachable: No cluster answers, or its side was lost meanwhile.
        """
        return self._joined(name).hold((name, address), _rows_of(pin), self._limit_bytes)

    def release(self, name: str, table_id: str, version: int | None) -> list[HeldVersion]:
        """Let go of a table's versions, or of one; raises as :meth:`hold`."""
        return self._joined(name).release(table_id, version)

    def held(self) -> list[HeldVersion]:
        """What is held, the least recently used first; raises as :meth:`hold`."""
        return self._joined(self._lake).held()

    def end(self) -> None:
        """Let go of all, and of the process that holds it; raises as :meth:`hold`."""
        self._joined(self._lake).end()

    def stream(self, pin: Pin) -> pa.RecordBatchReader | None:
        """The rows of a pin; None where they are not held, lost, or the engine must choose."""
        there = self._there()
        scan = None if there is None else _scan_of(pin)
        if there is None or scan is None:
            return None
        pieces = there.fetch(_rows_of(pin, scan))
        if pieces is None:
            return None
        return pa.RecordBatchReader.from_batches(pin.schema, _chosen(scan, pieces))

    def dataset(self, pin: Pin) -> Any:
        """The same as a Ray dataset of the pieces where they lie."""
        there = self._there()
        scan = None if there is None else _scan_of(pin)
        if there is None or scan is None:
            return None
        pieces = there.find(_rows_of(pin, scan))
        if pieces is None:
            return None
        return dataset_of_pieces(pieces, partial(_block, scan), self._address)

    def _joined(self, what: str) -> Connection:
        if self._address is None:
            raise HoldingNeedsCluster(
                f"{what}: versions are held in the object store of a Ray cluster, and this lake "
                "has none",
                hint="raylake.connect(lake, address='auto'), or head:6379",
            )
        join(self._address)
        return self._connection()

    def _connection(self) -> Connection:
        if self._made is None:
            self._made = load_actors(CONNECTION).on_cluster(self._lake)
        return self._made

    def _there(self) -> Connection | None:
        # Another thread may be about to import it: then nothing is connected yet.
        connected = getattr(sys.modules.get("ray"), "is_initialized", None)
        if self._address is None or connected is None or not connected():
            return None
        try:
            return self._connection()
        except ConfigError:
            return None


def _rows_of(pin: Pin, scan: FileScan | None = None) -> HeldKey:
    """The rows of a pin, with the columns that are only needed to choose them."""
    named = {*pin.schema.names, *(() if scan is None else scan.needed)}
    columns = tuple(name for name in pin.whole.names if name in named)
    return HeldKey(pin.table_id, pin.version, columns)


def _scan_of(pin: Pin) -> FileScan | None:
    if not pin.schema.names:
        return None  # no columns: what an engine makes of it is its own
    return scan_of_rows(pin.table_id, pin.version, pin.whole, pin.request)


def _chosen(scan: FileScan, pieces: Sequence[pa.Table]) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        yield from chosen(scan, piece)


def _block(scan: FileScan, piece: pa.Table) -> pa.Table:
    return pa.Table.from_batches(chosen(scan, piece), schema=scan.wanted)
