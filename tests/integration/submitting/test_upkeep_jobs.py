"""Upkeep as jobs on a cluster, and from Python on a table that others wrote."""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.client.progress import Silent
from raylake.client.upkeep import ByHand, of_target
from raylake.maintenance.history import History
from tests.harness.waiting import until
from tests.integration.submitting.conftest import Runs, Write

WAIT_S = 300.0
POLICY = """ingest: {consumers: 1}
silver: {rows: {from: bronze.clicks, mode: append}}
maintenance: {enabled: false, look_every: 1s, compact: {small_files: 3}}
"""


def made_small(table: Path, first: int, count: int = 6) -> None:
    """A table of small files that nobody of ours wrote."""
    for n in range(first, first + count):
        rows = pa.table({"id": pa.array([n, n + 1000]), "at": pa.array(["x", "y"])})
        write_deltalake(table, rows, mode="append")


def files(table: Path) -> int:
    return len(DeltaTable(table).file_uris())


@pytest.mark.spec("F1", "F3", "K1")
@pytest.mark.timeout(900)
def test_upkeep_is_a_job_of_its_own_once_and_as_a_service(
    cluster_runs: Runs, write: Write, tmp_path: Path
) -> None:
    lake, name = cluster_runs.lake, f"p{uuid.uuid4().hex[:6]}"
    table = tmp_path / "lake" / "silver" / "rows"
    made_small(table, 0)
    file = write(name, POLICY)

    once = lake.maintain(file)
    cluster_runs.started.append(once)
    assert once.submission_id == f"raylake-{name}~maintain-0001"
    assert once.wait(timeout_s=WAIT_S, progress=Silent()).state == "done"
    assert files(table) == 1
    (row,) = History(str(lake.where)).read().to_pylist()
    assert (row["run_id"], row["table"], row["action"], row["outcome"]) == (
        once.run_id, "silver.rows", "compact", "done",
    )  # fmt: skip

    # One that goes on: a second one attaches to it, it does what becomes due, a drain ends it.
    service = lake.maintain(file, once=False)
    cluster_runs.started.append(service)
    assert lake.maintain(file, once=False).run_id == service.run_id
    until(lambda: service.status().document.get("tables"), "it has looked", WAIT_S)
    assert lake.run(name, kind="maintain").run_id == service.run_id
    made_small(table, 10)
    until(lambda: files(table) == 1, "it has compacted", WAIT_S)
    assert service.drain(WAIT_S).state in ("done", "stopped")
    assert DeltaTable(table).to_pyarrow_table().num_rows == 24
    outcomes = History(str(lake.where)).read().column("outcome").to_pylist()
    assert set(outcomes) == {"done"}


@pytest.mark.spec("F1", "F3")
def test_a_table_by_its_path_is_looked_after_from_python(tmp_path: Path) -> None:
    table = tmp_path / "elsewhere"
    made_small(table, 0, 40)
    found = ByHand().run(of_target(str(table)))
    assert [(one.action.kind, one.ending) for one in found.outcomes] == [("compact", "done")]
    assert found.failure is None
    assert files(table) == 1
    assert DeltaTable(table).to_pyarrow_table().num_rows == 80
