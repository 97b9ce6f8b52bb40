"""Readers by name: each change once, from where they stood, and never past a gap in silence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import raylake
from raylake.client.lake_table import Table
from raylake.client.table_reader import NewRows
from raylake.errors import Refused
from raylake.tables import errors
from tests.integration.tables_api.conftest import FEED, SCHEMA, ids, rows, vacuum


def kinds(new: NewRows) -> list[tuple[str, int]]:
    """Kind of change and id of each row, sorted."""
    found = new.to_arrow().select(["_change_type", "id"]).to_pylist()
    return sorted((row["_change_type"], row["id"]) for row in found)


@pytest.mark.spec("C3")
def test_a_reader_gets_all_rows_first_and_then_what_changes(hundred: Table) -> None:
    reader = hundred.reader("mart")
    assert reader.version is None
    with reader.read_new() as new:
        assert new.snapshot
        assert ids(new.to_arrow()) == list(range(150))
        assert set(new.to_arrow().column("_commit_version").to_pylist()) == {2}
    assert reader.read_new().empty
    hundred.delete("id = 3")
    hundred.append(rows(range(200, 202)))
    again = hundred.reader("mart")
    assert kinds(again.read_new()) == [("delete", 3), ("insert", 200), ("insert", 201)]
    # Not committed: it comes again, also in two parts.
    part = again.read_new(max_versions=1)
    assert kinds(part) == [("delete", 3)]
    part.commit()
    part.commit()
    assert again.version == 3
    assert kinds(hundred.reader("mart").read_new()) == [("insert", 200), ("insert", 201)]
    assert kinds(hundred.reader("other", start=4).read_new()) == [("insert", 200), ("insert", 201)]
    ignoring = hundred.reader("inserts", start=3, ignore_deletes=True).read_new()
    assert kinds(ignoring) == [("insert", 200), ("insert", 201)]


@pytest.mark.spec("C3")
def test_a_block_that_fails_leaves_the_reader_where_it_was(hundred: Table) -> None:
    reader = hundred.reader("mart", start=0)
    with pytest.raises(RuntimeError, match="the sink is full"), reader.read_new():
        raise RuntimeError("the sink is full")
    assert reader.version is None
    new = reader.read_new()
    reader.commit()
    assert reader.version == new.last_version == 2


@pytest.mark.spec("C3")
def test_latest_begins_when_it_is_first_asked(hundred: Table) -> None:
    assert hundred.reader("late", start="latest").read_new().empty
    hundred.append(rows(range(300, 301)))
    # A new process that has committed nothing finds the place of then.
    assert kinds(hundred.reader("late", start="latest").read_new()) == [("insert", 300)]


@pytest.mark.spec("C3")
def test_a_table_without_a_change_feed_is_read_by_the_files_that_it_got(
    lake: raylake.Lake,
) -> None:
    table = lake.table("bronze.clicks")
    table.create(SCHEMA, partition_by=["region"])
    reader = table.reader("silver", start=0)
    table.append(rows(range(10)))
    table.append(rows(range(10, 20)))
    table.append(
        pa.table({"id": [20], "region": pa.array([None], pa.string()), "extra": ["x"]}),
        schema="merge",
    )
    DeltaTable(table.address).optimize.compact()
    with reader.read_new() as new:
        found = new.to_arrow()
        assert ids(found) == list(range(21))
        assert found.column("extra").null_count == 20
        assert {row["region"] for row in found.to_pylist()} == {None, *(f"r{i}" for i in range(10))}
    table.delete("id = 4")
    with pytest.raises(errors.ChangesUnavailable, match="version 5 changed rows"):
        reader.read_new().to_arrow()
    reader.reset(6)
    table.delete("region = 'r5'")
    with pytest.raises(errors.ChangesUnavailable, match="version 6 took rows away"):
        reader.read_new().to_arrow()
    patient = table.reader("silver", ignore_deletes=True)
    assert patient.read_new().to_arrow().num_rows == 0
    DeltaTable(table.address).alter.set_table_properties(FEED)
    table.append(rows(range(30, 31)))
    table.delete("id = 30")
    assert kinds(patient.read_new()) == [("insert", 30)]
    assert kinds(table.reader("feed", start=8).read_new()) == [("delete", 30), ("insert", 30)]


@pytest.mark.spec("C3")
def test_failure_27_a_version_that_vacuum_took_is_an_error_that_names_the_gap(
    orders: Table,
) -> None:
    reader = orders.reader("mart", start=0)
    orders.append(rows(range(10)))
    reader.read_new().commit()
    orders.append(rows(range(10, 20)))
    orders.delete("id >= 0")
    orders.append(rows(range(20, 30)))
    shutil.rmtree(Path(orders.address) / "_change_data", ignore_errors=True)
    vacuum(orders)
    new = reader.read_new()
    with pytest.raises(errors.ReaderGap, match="versions 2 to 2 are gone") as gap:
        new.to_arrow()
    assert (gap.value.context["first"], gap.value.context["last"]) == (2, 2)
    assert reader.version == 1
    reader.reset(gap.value.context["oldest"])
    reader.reset(4)
    assert kinds(reader.read_new()) == [("insert", one) for one in range(20, 30)]
    reader.reset("all")
    assert ids(reader.read_new().to_arrow()) == list(range(20, 30))


@pytest.mark.spec("C3")
def test_of_two_processes_with_one_name_the_second_is_told(hundred: Table) -> None:
    first, second = hundred.reader("mart"), hundred.reader("mart")
    mine, other = first.read_new(), second.read_new()
    mine.commit()
    with pytest.raises(errors.ReaderMoved):
        other.commit()
    # One that slept while many commits came, and whose number was removed meanwhile.
    hundred.append(rows(range(500, 501)))
    sleeper = second.read_new()
    for one in range(5):
        first.read_new().commit()
        hundred.append(rows(range(600 + one, 601 + one)))
    with pytest.raises(errors.ReaderMoved):
        sleeper.commit()
    assert first.version == 7
    assert kinds(hundred.reader("mart").read_new()) == [("insert", 604)]


@pytest.mark.spec("C3")
def test_a_table_that_was_created_again_is_not_taken_for_the_old_one(
    hundred: Table, lake: raylake.Lake
) -> None:
    reader = hundred.reader("mart")
    reader.read_new().commit()
    shutil.rmtree(hundred.address)
    lake.table("silver.orders").create(SCHEMA, properties=FEED)
    with pytest.raises(errors.ReaderLost, match="created again"):
        reader.read_new()
    reader.reset("all")
    with reader.read_new() as new:
        assert new.to_arrow().num_rows == 0
    place = max((Path(lake.where) / "_raylake/readers/silver.orders/mart").glob("*.json"))
    place.write_text("{")
    with pytest.raises(errors.ReaderLost, match="is not the place of a reader"):
        reader.read_new()


KILLED = """
import os, sys
import raylake
from raylake.storage import place
reader = raylake.connect(sys.argv[1]).table("silver.orders").reader("mart", start=0)
new = reader.read_new()
if sys.argv[2] == "before":
    os.link = lambda *_: os._exit(9)
else:
    synced = place.sync_path
    place.sync_path = lambda path: os._exit(9) if path.is_dir() else synced(path)
new.commit()
"""


@pytest.mark.spec("C3")
@pytest.mark.parametrize(("when", "version"), [("before", None), ("after", 2)])
def test_a_process_that_dies_in_its_commit_leaves_the_old_place_or_the_new_one(
    hundred: Table, lake: raylake.Lake, when: str, version: int | None
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, lake.where, when], check=False)
    assert done.returncode == 9
    reader = hundred.reader("mart", start=0)
    assert reader.version == version
    reader.read_new().commit()
    hundred.append(rows(range(900, 901)))
    with reader.read_new() as new:
        assert new.last_version == 3
    folder = Path(lake.where) / "_raylake/readers/silver.orders/mart"
    documents = [json.loads(one.read_text()) for one in sorted(folder.glob("0*.json"))]
    assert documents[-1]["version"] == 3


def test_a_lake_that_cannot_be_written_is_named(hundred: Table, lake: raylake.Lake) -> None:
    new = hundred.reader("mart").read_new()
    (Path(lake.where) / "_raylake").write_text("in the way")
    with pytest.raises(Refused, match="cannot be read or written"):
        new.commit()
    with pytest.raises(errors.BadRequest):
        hundred.reader("../up")
    with pytest.raises(errors.BadRequest):
        hundred.reader("mart").commit()
