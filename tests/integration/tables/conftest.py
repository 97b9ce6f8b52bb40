"""Clients of the tests' cluster, and a table that they work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raylake import faults
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Read
from tests.harness.cluster import ROOT, LiveCluster
from tests.integration.tables.client import Client

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64())])


def rows(*ids: int, n: int = 0) -> pa.Table:
    return pa.table({"id": list(ids), "n": [n] * len(ids)}, schema=SCHEMA)


@pytest.fixture(scope="session")
def faults_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def clients(ray_cluster: LiveCluster, faults_folder: Path) -> Iterator[tuple[Client, Client]]:
    """Two processes, each with a connection of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = {**inherited, **ray_cluster.environment, "PYTHONPATH": str(ROOT)}
    environment[faults.ENV] = str(faults_folder)
    pair = (Client(environment), Client(environment))
    try:
        yield (pair[0].ready(), pair[1].ready())
    finally:
        for client in pair:
            client.close()


@pytest.fixture
def table(tmp_path: Path) -> str:
    address = str(tmp_path / "t")
    engine = DeltaRsEngine()
    engine.execute(address, Create(SCHEMA))
    engine.execute(address, Append(rows(1, 2, 3)))
    return address


@pytest.fixture
def held(table: str) -> Callable[[], dict[int, int]]:
    """What the table holds: n by id; each id once."""

    def read() -> dict[int, int]:
        found: list[dict[str, Any]] = DeltaRsEngine().read(table, Read()).read_all().to_pylist()
        assert len({row["id"] for row in found}) == len(found)
        return {row["id"]: row["n"] for row in found}

    return read
