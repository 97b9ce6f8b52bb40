"""``to_ray()`` on a real cluster: one version, file by file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from deltalake import DeltaTable

import raylake
from raylake.client.lake_table import Table
from raylake.client.ray_rows import grouped
from raylake.errors import ConfigError
from raylake.storage.place import place
from raylake.tables.data_files import LiveFile, file_scan, read_file
from raylake.tables.requests import Read
from tests.harness.cluster import LiveCluster
from tests.integration.tables_api.conftest import SCHEMA, rows

pytestmark = pytest.mark.spec("C3")


@pytest.fixture(scope="module")
def cluster(ray_cluster: LiveCluster) -> Iterator[None]:
    """This process as a driver of the shared cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_cluster.environment.items():
            patch.setenv(name, value)
        yield
        ray.shutdown()


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


def test_a_dataset_is_pinned_to_its_version_and_reads_file_by_file(
    cluster: None, sales: Table
) -> None:
    wanted = sales.read().to_arrow().sort_by("id")
    data = sales.read().to_ray()
    sales.delete("id < 50")
    found = pa.concat_tables(ray.get(data.to_arrow_refs()))
    assert found.sort_by("id") == wanted
    assert data.num_blocks() if hasattr(data, "num_blocks") else True
    assert sales.read(version=1).to_ray().count() == 100
    few = sales.read("region IN ('r1', 'r2') AND id >= 50", ["amount", "id"]).to_ray()
    assert sorted(row["id"] for row in few.take_all()) == [51, 52, 61, 62, 71, 72, 81, 82, 91, 92]
    assert few.schema().names == ["amount", "id"]
    by_engine = sales.read("lower(region) LIKE 'r1%'").to_ray()
    assert sorted(row["id"] for row in by_engine.take_all()) == [51, 61, 71, 81, 91]
    sales.delete("true")
    assert sales.read().to_ray().count() == 0


def test_changes_and_new_rows_become_datasets(cluster: None, hundred: Table) -> None:
    assert hundred.changes(from_version=2, ignore_changes=True).to_ray().count() == 50
    assert hundred.reader("mart").read_new().to_ray().count() == 150


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
