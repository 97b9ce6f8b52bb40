"""Jobs on a cluster that make derived tables, and letters whose copies lie in an object store."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import polars as pl
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from pyarrow.fs import S3FileSystem

from raylake.client.progress import Silent
from raylake.errors import ConfigError
from raylake.storage.dev import KEY as STORE_KEY
from raylake.storage.dev import StoreInfo
from tests.harness.broker import LiveBroker
from tests.harness.store import access_to
from tests.harness.waiting import until
from tests.integration.submitting.conftest import GOOD, POISON, Runs, Write, send

WAIT_S = 300.0
SILVER = "silver: {clicks: {from: bronze.clicks, mode: upsert, keys: [id], sequence_by: at}}\n"


@pytest.mark.spec("K1", "D1")
@pytest.mark.timeout(900)
def test_derived_tables_are_made_by_a_job_of_their_own(
    cluster_runs: Runs, write: Write, tmp_path: Path, broker: LiveBroker
) -> None:
    lake, name = cluster_runs.lake, f"p{uuid.uuid4().hex[:6]}"
    topic = broker.create_topic(name, partitions=2)
    send(broker, topic, GOOD)
    bronze = write(f"{name}-bronze", topic=topic)
    bronze.write_text(bronze.read_text().replace(f"{name}-bronze", name))
    cluster_runs.submit(bronze, available_now=True).wait(timeout_s=WAIT_S, progress=Silent())
    silver = tmp_path / "lake" / "silver" / "clicks"
    assert not silver.exists()
    file = write(name, SILVER, topic)
    with pytest.raises(ConfigError, match=r"silver\.click is no silver or gold table"):
        lake.transform(file, ["silver.click"])

    first = lake.transform(file, ["silver.clicks"])
    cluster_runs.started.append(first)
    assert first.submission_id == f"raylake-{name}~transform-0001"
    assert first.wait(timeout_s=WAIT_S, progress=Silent()).state == "done"
    assert pl.read_delta(str(silver)).height == GOOD
    found = lake.run(name, kind="transform")
    assert (found.run_id, found.status().state) == (first.run_id, "done")
    assert any("silver.clicks" in line.message for line in found.logs())
    # The pipeline's own run is another one.
    assert lake.run(name).run_id != first.run_id

    # One that goes on: a second one attaches to it, and a drain ends it.
    going = lake.transform(file, continuous=True)
    cluster_runs.started.append(going)
    assert lake.transform(file, continuous=True).run_id == going.run_id
    send(broker, topic, 50)
    cluster_runs.submit(bronze, available_now=True).wait(timeout_s=WAIT_S, progress=Silent())

    def brought_in() -> bool:
        found = going.status().document.get("tables", {}).get("silver.clicks", {})
        return bool(found.get("rows") == 50)

    until(brought_in, "the new rows", WAIT_S)
    assert going.drain(WAIT_S).state in ("done", "stopped")
    # They have keys that are there.
    assert pl.read_delta(str(silver)).height == GOOD
    made = DeltaTable(str(silver)).version()
    again = lake.transform(file, full_refresh=["silver.clicks"])
    cluster_runs.started.append(again)
    assert again.submission_id == f"raylake-{name}~transform-0003"
    assert again.wait(timeout_s=WAIT_S, progress=Silent()).state == "done"
    assert DeltaTable(str(silver)).version() > made
    assert pl.read_delta(str(silver)).height == GOOD


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
