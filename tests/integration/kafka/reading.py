"""What the fetch tests share: a scope that reads a topic and keeps account of every offset."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from raylake.kafka.fetch import (
    ColumnarFetcher,
    Connection,
    FetchedBatch,
    FetchSettings,
    PollFetcher,
    Position,
)

DEADLINE_S = 60.0

KINDS: dict[str, type[PollFetcher]] = {"plain": PollFetcher, "columnar": ColumnarFetcher}
"""The implementations of the port: each behaviour test reads with both."""

chosen = "columnar"
"""The one that :func:`reading` makes now; the fixture ``kind`` of these tests sets it."""


class Reading:
    """A fetcher and all that it delivered."""

    def __init__(self, fetcher: PollFetcher, sources: list[SourcePartition]) -> None:
        self.fetcher = fetcher
        self.sources = sources
        self.batches: dict[SourcePartition, list[FetchedBatch]] = defaultdict(list)

    def step(self, timeout_s: float = 0.2) -> list[FetchedBatch]:
        """One fetch; every range must follow the last one and hold its own rows only."""
        got = self.fetcher.fetch(timeout_s)
        for batch in got:
            before = self.batches[batch.source]
            if before:
                assert batch.start == before[-1].end
            offsets = batch.records.column("offset").to_pylist()
            assert offsets == sorted(set(offsets))
            assert all(batch.start <= offset < batch.end for offset in offsets)
            before.append(batch)
        return got

    def until(self, done: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, f"not done; positions {self.fetcher.positions()}"
            self.step()

    def until_caught_up(self, timeout_s: float = DEADLINE_S) -> None:
        """Read on to the last stable offset of every partition."""
        with Cluster(self.fetcher._connection.bootstrap) as cluster:
            ends = cluster.latest(self.sources)
        self.until(lambda: self.reached(ends), timeout_s)

    def reached(self, ends: Mapping[SourcePartition, int]) -> bool:
        positions = self.fetcher.positions()
        return all(positions[source].offset >= end for source, end in ends.items())

    def column(self, name: str, source: SourcePartition | None = None) -> list[Any]:
        chosen = self.sources if source is None else [source]
        return [
            value
            for one in chosen
            for batch in self.batches[one]
            for value in batch.records.column(name).to_pylist()
        ]

    def rows(self) -> pa.Table:
        return pa.Table.from_batches(
            [batch.records for found in self.batches.values() for batch in found]
        )

    def absent(self, source: SourcePartition) -> int:
        return sum(batch.absent for batch in self.batches[source])


@contextmanager
def reading(
    bootstrap: str,
    topic: str,
    *,
    at: int = 0,
    settings: FetchSettings | None = None,
    connect_timeout_s: float = 10.0,
) -> Iterator[Reading]:
    """Read ``topic`` from offset ``at`` of each partition."""
    with Cluster(bootstrap) as cluster:
        info = cluster.topics([topic])[topic]
    fetcher = KINDS[chosen](Connection(bootstrap, None, connect_timeout_s), settings)
    try:
        fetcher.assign({source: Position(at) for source in info.sources()})
        yield Reading(fetcher, info.sources())
    finally:
        fetcher.close()
