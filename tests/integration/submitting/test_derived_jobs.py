"""Jobs on a cluster that make derived tables, and letters whose copies lie in an object store."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from pyarrow.fs import S3FileSystem

from raylake.client.progress import Silent
from raylake.client.run import Run
from raylake.errors import ConfigError
from raylake.storage.dev import KEY as STORE_KEY
from raylake.storage.dev import StoreInfo
from tests.harness.broker import LiveBroker
from tests.harness.store import access_to
from tests.harness.waiting import until
from tests.integration.submitting.conftest import GOOD, POISON, Runs, Write, send

WAIT_S = 300.0
SILVER = "silver: {clicks: {from: bronze.clicks, mode: upsert, keys: [id], sequence_by: at}}\n"


@dataclass
class Clicks:
    """A pipeline whose bronze table is filled, by a file without its silver table."""

    runs: Runs
    broker: LiveBroker
    name: str
    topic: str
    bronze: Path
    file: Path
    silver: Path

    def fill(self, count: int) -> None:
        """So many records more."""
        send(self.broker, self.topic, count)
        run = self.runs.submit(self.bronze, available_now=True)
        run.wait(timeout_s=WAIT_S, progress=Silent())

    def transform(self, *tables: str, **more: Any) -> Run:
        run = self.runs.lake.transform(self.file, tables, **more)
        self.runs.started.append(run)
        return run

    def rows(self) -> int:
        return int(pl.read_delta(str(self.silver)).height)


@pytest.fixture
def filled(cluster_runs: Runs, write: Write, tmp_path: Path, broker: LiveBroker) -> Clicks:
    name = f"p{uuid.uuid4().hex[:6]}"
    topic = broker.create_topic(name, partitions=2)
    bronze = write(f"{name}-bronze", topic=topic)
    bronze.write_text(bronze.read_text().replace(f"{name}-bronze", name))
    silver = tmp_path / "lake" / "silver" / "clicks"
    made = Clicks(cluster_runs, broker, name, topic, bronze, write(name, SILVER, topic), silver)
    made.fill(GOOD)
    return made


@pytest.mark.long
@pytest.mark.spec("K1", "D1")
@pytest.mark.timeout(900)
def test_derived_tables_are_made_by_a_job_of_their_own(filled: Clicks) -> None:
    lake, name = filled.runs.lake, filled.name
    assert not filled.silver.exists()
    with pytest.raises(ConfigError, match=r"silver\.click is no silver or gold table"):
        lake.transform(filled.file, ["silver.click"])

    first = filled.transform("silver.clicks")
    assert first.submission_id == f"raylake-{name}~transform-0001"
    assert first.wait(timeout_s=WAIT_S, progress=Silent()).state == "done"
    assert filled.rows() == GOOD
    found = lake.run(name, kind="transform")
    assert (found.run_id, found.status().state) == (first.run_id, "done")
    assert any("silver.clicks" in line.message for line in found.logs())
    # The pipeline's own run is another one.
    assert lake.run(name).run_id != first.run_id


@pytest.mark.long
@pytest.mark.spec("K1", "D1")
@pytest.mark.timeout(900)
def test_a_job_of_derived_tables_goes_on_until_it_is_drained_or_makes_them_anew(
    filled: Clicks,
) -> None:
    """A second one attaches to the one that goes on."""
    going = filled.transform(continuous=True)
    assert filled.transform(continuous=True).run_id == going.run_id

    def brought_in(rows: int) -> bool:
        found = going.status().document.get("tables", {}).get("silver.clicks", {})
        return bool(found.get("rows") == rows)

    until(lambda: brought_in(GOOD), "the first rows", WAIT_S)
    filled.fill(50)
    until(lambda: brought_in(GOOD + 50), "the new rows", WAIT_S)
    assert going.drain(WAIT_S).state in ("done", "stopped")
    # They have keys that are there.
    assert filled.rows() == GOOD
    made = DeltaTable(str(filled.silver)).version()
    again = filled.transform(full_refresh=["silver.clicks"])
    assert again.submission_id == f"raylake-{filled.name}~transform-0002"
    assert again.wait(timeout_s=WAIT_S, progress=Silent()).state == "done"
    assert DeltaTable(str(filled.silver)).version() > made
    assert filled.rows() == GOOD


@pytest.mark.long
@pytest.mark.spec("B3", "B4")
@pytest.mark.timeout(900)
def test_letters_are_copied_into_a_store_and_replayed_from_the_table(
    cluster_runs: Runs,
    write: Write,
    store: StoreInfo,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LAKE_KEY", STORE_KEY)
    lake, name = cluster_runs.lake, f"p{uuid.uuid4().hex[:6]}"
    bucket = f"s3://{store.bucket}"
    entry = {**access_to(store), "secret_access_key": "env:LAKE_KEY", "allow_http": True}
    more = f"dead_letters: {{also: {{files: {{path: '{bucket}/{name}'}}}}}}\n"
    more += f"stores: {json.dumps({bucket: entry})}\ningest: {{consumers: 1}}\n"
    file = write(name, more)
    run = cluster_runs.submit(file, available_now=True)
    view = run.wait(timeout_s=WAIT_S, progress=Silent())
    assert (view.rows, view.dead_letters) == (GOOD, POISON)
    letters = pl.read_delta(str(tmp_path / "lake" / "dead_letters" / name))
    where = ["topic", "partition", "offset", "reason", "value"]
    files, copies = copied(store, name)
    assert all(f"pipeline={name}/stage=decode" in path for path in files)
    assert copies.select(where).sort(where).equals(letters.select(where).sort(where))
    assert copies.height == POISON

    # What a replay marks is no new letter: the copies stay as they were.
    mend = tmp_path / "fixes.py"
    mend.write_text('def mend(letter):\n    return b\'{"id": 7, "at": "2025-01-01T00:00:00Z"}\'\n')
    replayed = lake.dead_letters(file).replay(fix=f"{mend}:mend")
    assert replayed.rows == POISON
    assert run.verify("data").ok
    cluster_runs.submit(file, available_now=True).wait(timeout_s=WAIT_S, progress=Silent())
    assert copied(store, name)[0] == files


def copied(store: StoreInfo, folder: str) -> tuple[list[str], pl.DataFrame]:
    """The Parquet files below a folder of the store, and their rows, read by plain tools."""
    reached = S3FileSystem(
        access_key=store.access_key_id,
        secret_key=store.secret_access_key,
        endpoint_override=store.endpoint,
        region="us-east-1",
    )
    found = ds.dataset(f"{store.bucket}/{folder}", filesystem=reached, format="parquet")
    rows = pl.from_arrow(found.to_table())
    assert isinstance(rows, pl.DataFrame)
    return sorted(found.files), rows
