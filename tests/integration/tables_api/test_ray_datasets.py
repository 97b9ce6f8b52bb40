"""``to_ray()`` on a real cluster: one version, file by file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import raylake
from raylake.client.lake_table import Table
from raylake.client.ray_rows import grouped
from raylake.errors import ConfigError
from raylake.storage.place import place
from raylake.tables.data_files import LiveFile, file_scan, read_file
from raylake.tables.requests import Read
from tests.harness.cluster import ROOT, LiveCluster
from tests.integration.tables_api.conftest import SCHEMA, rows

pytestmark = pytest.mark.spec("C3")


@pytest.fixture
def sales(lake: raylake.Lake) -> Table:
    """A table with partitions, of which older files lack a column."""
    table = lake.table("gold.sales")
    table.create(SCHEMA, partition_by=["region"])
    table.append(rows(range(100)))
    table.append(
        pa.table({"id": [100], "region": pa.array([None], pa.string()), "extra": ["x"]}),
        schema="merge",
    )
    return table


# Ray reads its settings when it is imported: a process of its own joins the cluster.
DRIVER = """
import json, sys
import raylake
from ray import data

# A worker for each of eleven files would be eleven processes.
few_workers = data.ExecutionResources(cpu=2)
data.DataContext.get_current().execution_options.resource_limits = few_workers

lake = raylake.connect(sys.argv[1])
sales, orders = lake.table("gold.sales"), lake.table("silver.orders")
def ids(data):
    return sorted(row["id"] for row in data.take_all())
pinned = sales.read().to_ray()
few = sales.read("region IN ('r1', 'r2') AND id >= 50", ["amount", "id"])
by_engine = sales.read("lower(region) LIKE 'r1%' AND id >= 50")
found = {"files": sales.describe().files}
sales.delete("id < 50")
rows = pinned.take_all()
found |= {
    "ids": sorted(row["id"] for row in rows),
    "extra": [row["extra"] for row in rows if row["id"] == 100],
    "blocks": pinned.materialize().num_blocks(),
    "old": sales.read(version=1).to_ray().count(),
    "few": ids(few.to_ray()),
    "columns": few.to_ray().schema().names,
    "by_engine": ids(by_engine.to_ray()),
    "now": sales.read().to_ray().count(),
    "inserts": orders.changes(from_version=2, ignore_changes=True).to_ray().count(),
    "new": orders.reader("mart").read_new().to_ray().count(),
}
sales.delete("true")
found["none"] = sales.read().to_ray().count()
print(json.dumps(found))
"""


def test_a_dataset_is_pinned_to_its_version_and_reads_file_by_file(
    ray_cluster: LiveCluster, sales: Table, hundred: Table, lake: raylake.Lake
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, lake.where],
        env={**environment, **ray_cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Ray may add a line of its own.
    found = json.loads([one for one in done.stdout.splitlines() if one.startswith("{")][-1])
    assert found["ids"] == list(range(101))
    assert found["extra"] == ["x"]
    assert found["blocks"] == found["files"] == 11
    assert (found["old"], found["now"], found["none"]) == (100, 51, 0)
    assert found["few"] == [51, 52, 61, 62, 71, 72, 81, 82, 91, 92]
    assert found["columns"] == ["amount", "id"]
    assert found["by_engine"] == [51, 61, 71, 81, 91]
    assert (found["inserts"], found["new"]) == (50, 150)


def test_the_jobs_address_is_no_drivers(sales: Table, lake: raylake.Lake) -> None:
    remote = raylake.connect(lake.where, address="https://ray.example:8265")
    with pytest.raises(ConfigError, match="Jobs API"):
        remote.table("gold.sales").read().to_ray()


CONDITIONS = (
    "id = 7",
    "NOT (id > 90 OR region = 'r3')",
    "region IS NULL",
    "region IS NOT NULL AND extra IS NULL",
    "id BETWEEN 10 AND 20 AND amount <> 2",
    "region NOT IN ('r1', 'r2')",
    "id = -1 OR id < 5.5",
    "region > 'r5'",
)


@pytest.mark.parametrize("where", CONDITIONS)
def test_files_one_by_one_give_what_the_engine_gives(sales: Table, where: str) -> None:
    found = file_scan(place(sales.address), Read(where, ("id", "region", "extra"), sales.version))
    assert found is not None
    scan, files = found
    batches = [batch for file in files for batch in read_file(scan, file)]
    by_file = pa.Table.from_batches(batches, schema=scan.wanted)
    by_engine = sales.read(where, ["id", "region", "extra"]).to_arrow()
    assert by_file.sort_by("id").to_pylist() == by_engine.sort_by("id").to_pylist()


def test_files_that_are_older_than_a_field_of_a_struct_have_none_in_it(
    lake: raylake.Lake,
) -> None:
    table = lake.table("silver.nested")
    first = pa.table({"id": [1, 2], "s": [{"x": 1}, None]})
    table.create(first.schema)
    table.append(first)
    newer = pa.table({"id": [3], "s": [{"x": 3, "y": "new"}]})
    write_deltalake(table.address, newer, mode="append", schema_mode="merge")
    found = file_scan(place(table.address), Read(version=table.version))
    assert found is not None
    scan, files = found
    batches = [batch for file in files for batch in read_file(scan, file)]
    by_file = pa.Table.from_batches(batches, schema=scan.wanted).sort_by("id").to_pylist()
    assert by_file == table.read().to_arrow().sort_by("id").to_pylist()
    assert [row["s"] for row in by_file] == [{"x": 1, "y": None}, None, {"x": 3, "y": "new"}]


def test_tables_that_only_the_engine_reads_right_are_left_to_it(
    lake: raylake.Lake, tmp_path: Path
) -> None:
    folder = Path(lake.where) / "silver" / "mapped"
    DeltaTable.create(
        str(folder),
        pa.schema([("id", pa.int64())]),
        configuration={"delta.columnMapping.mode": "name"},
    )
    assert file_scan(place(str(folder)), Read(version=0)) is None


def test_many_files_are_shared_by_size() -> None:
    files = [LiveFile(f"f{size}", size, None, {}) for size in (9, 1, 5, 4, 1)]
    groups = grouped(files, 2)
    assert [sum(one.size_bytes for one in group) for group in groups] == [10, 10]
    assert sum(len(group) for group in groups) == 5
