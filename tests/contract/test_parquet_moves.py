"""Parquet folders that become Delta tables: in place, and beside them with validation."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylake.delta.partition_values import NULL_FOLDER
from raylake.errors import DependencyUnreachable
from raylake.faults import arm, fired
from raylake.tables import errors, migrate
from raylake.tables.convert import roll_back_conversion
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.migrate import Migrate
from raylake.tables.requests import Append, Create, Read, Update, Upsert
from raylake.tables.upkeep_requests import Compact, Convert, Repartition
from tests.harness.disk import SmallDisk, small_disk

__all__ = ["small_disk"]

ENGINE = DeltaRsEngine()
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def rows(start: int, count: int, **columns: Any) -> pa.Table:
    ids = range(start, start + count)
    found = {
        "id": pa.array(ids, pa.int64()),
        "name": [f"n{one}" for one in ids],
        "ratio": [float("nan") if one % 7 == 0 else one / 2 for one in ids],
        "at": pa.array([NOON] * count, pa.timestamp("us", "UTC")),
    }
    return pa.table({**found, **columns})


def written(folder: Path, files: dict[str, pa.Table], **options: Any) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(data, folder / path, **options)
    return folder


def ids(path: Path, **request: Any) -> list[int]:
    found = ENGINE.read(str(path), Read(columns=("id",), **request)).read_all()
    return sorted(found.column("id").to_pylist())


def hive(folder: Path) -> Path:
    return written(
        folder,
        {
            "day=2026-01-30/n=1/a.parquet": rows(0, 10),
            "day=2026-01-31/n=2/a.parquet": rows(10, 10),
            "day=2026-01-31/n=__HIVE_DEFAULT_PARTITION__/b c.parquet": rows(20, 10),
        },
    )


# -- in place


@pytest.mark.spec("C4")
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_files_that_count_milliseconds_are_found_by_their_times(tmp_path: Path, unit: str) -> None:
    folder = written(tmp_path / "t", {"a.parquet": rows(0, 3)}, coerce_timestamps=unit)
    ENGINE.execute(str(folder), Convert())
    assert ids(folder, where="at >= timestamp '2026-01-31 12:00:00Z'") == [0, 1, 2]
    assert ids(folder, where="at > timestamp '2026-01-31 12:00:00Z'") == []
    adds = [json.loads(line).get("add") for line in _log(folder, 0)]
    bounds = [json.loads(add["stats"])["minValues"].get("at") for add in adds if add]
    assert [one[:19] for one in bounds] == ["2026-01-31T12:00:00"]


def _log(folder: Path, version: int) -> list[str]:
    return (folder / "_delta_log" / f"{version:020}.json").read_text().splitlines()


@pytest.mark.spec("C4")
def test_a_folder_becomes_a_table_where_it_is(tmp_path: Path) -> None:
    folder = hive(tmp_path / "t")
    (folder / "_SUCCESS").touch()
    files = {p: p.read_bytes() for p in folder.rglob("*.parquet")}
    result = ENGINE.execute(str(folder), Convert())
    assert (result.version_before, result.version_after) == (-1, 0)
    assert (result.rows.inserted, result.files.added) == (30, 3)
    assert ids(folder) == list(range(30))
    assert ids(folder, where="day = date '2026-01-31' and n = 2") == list(range(10, 20))
    assert ids(folder, where="n is null") == list(range(20, 30))
    # NaN, which footers do not tell of, is above every number to Delta's readers.
    found = json.loads((folder / "_delta_log" / f"{0:020d}.json").read_text().splitlines()[-1])
    stats = json.loads(found["add"]["stats"])
    assert (stats["minValues"]["id"], "ratio" in stats["maxValues"]) == (20, False)
    assert ids(folder, where="id = 25") == [25]
    assert {p: p.read_bytes() for p in folder.rglob("*.parquet")} == files
    ENGINE.execute(
        str(folder), Upsert(rows(29, 2, day=[dt.date(2026, 2, 1)] * 2, n=[3, 3]), ("id",))
    )
    assert ids(folder) == list(range(31))
    with pytest.raises(errors.TableExists):
        ENGINE.execute(str(folder), Convert())


@pytest.mark.spec("C4")
def test_partition_types_may_be_given(tmp_path: Path) -> None:
    folder = hive(tmp_path / "t")
    by = pa.schema([("day", pa.string()), ("n", pa.int32())])
    ENGINE.execute(str(folder), Convert(by, {"delta.enableChangeDataFeed": "true"}))
    schema = ENGINE.read(str(folder), Read()).schema
    assert (schema.field("day").type, schema.field("n").type) == (pa.string(), pa.int32())
    other = hive(tmp_path / "u")
    with pytest.raises(errors.FilesRefused, match="names hold"):
        ENGINE.execute(str(other), Convert(pa.schema([("day", pa.string())])))
    wrong = pa.schema([("day", pa.int32()), ("n", pa.int32())])
    with pytest.raises(errors.SchemaMismatch, match="day=2026-01-30"):
        ENGINE.execute(str(other), Convert(wrong))
    assert not (other / "_delta_log").exists()


@pytest.mark.spec("C4")
def test_times_as_spark_writes_them_by_default_are_points_in_time(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "t", {"a.parquet": rows(0, 3)}, use_deprecated_int96_timestamps=True
    )
    ENGINE.execute(str(folder), Convert())
    found = ENGINE.read(str(folder), Read(columns=("at",))).read_all()
    assert found.column("at").to_pylist() == [NOON] * 3
    assert ids(folder, where="at = '2026-01-31T12:00:00Z'") == [0, 1, 2]


@pytest.mark.spec("C4")
@pytest.mark.parametrize("change", ["type", "missing", "extra"])
def test_mixed_schemas_are_refused_by_file(tmp_path: Path, change: str) -> None:
    odd = {
        "type": rows(0, 2).set_column(0, "id", pa.array(["0", "1"])),
        "missing": rows(0, 2).drop_columns(["name"]),
        "extra": rows(0, 2, more=[1, 2]),
    }[change]
    files = {"a.parquet": rows(0, 2), "b.parquet": rows(2, 2), "odd.parquet": odd}
    folder = written(tmp_path / "t", files)
    with pytest.raises(errors.SchemaMismatch, match=r"odd\.parquet") as caught:
        ENGINE.execute(str(folder), Convert())
    assert caught.value.context["columns"] == [
        {"type": "id", "missing": "name", "extra": "more"}[change]
    ]
    assert not (folder / "_delta_log").exists()


@pytest.mark.spec("C4")
def test_folders_that_are_no_table_are_refused_by_name(tmp_path: Path) -> None:
    def refused(name: str, said: str) -> None:
        with pytest.raises(errors.FilesRefused, match=said):
            ENGINE.execute(str(tmp_path / name), Convert())
        assert not (tmp_path / name / "_delta_log").exists()

    refused("nothing", "no Parquet file")
    folder = written(tmp_path / "torn", {"a.parquet": rows(0, 2)})
    (folder / "b.parquet").write_bytes(b"PAR1")
    refused("torn", r"b\.parquet cannot be read")
    (written(tmp_path / "csv", {"a.parquet": rows(0, 2)}) / "b.csv").write_text("1")
    refused("csv", r"b\.csv")
    written(tmp_path / "deep", {"a.parquet": rows(0, 2), "x=1/b.parquet": rows(0, 2)})
    refused("deep", r"x=1/b\.parquet")
    written(tmp_path / "odd", {"sub/a.parquet": rows(0, 2)})
    refused("odd", "'sub' is no column=value")
    written(tmp_path / "twice", {"id=1/a.parquet": rows(0, 2)})
    refused("twice", "'id' is in the files")
    # Delta's protocol: an empty text among partition values is null.
    written(tmp_path / "empty", {"x=/a.parquet": rows(0, 2)})
    refused("empty", "'x=' has an empty value")
    unsigned = rows(0, 2, u=pa.array([1, 2], pa.uint32()))
    folder = written(tmp_path / "unsigned", {"a.parquet": unsigned})
    with pytest.raises(errors.SchemaMismatch, match="migrate"):
        ENGINE.execute(str(folder), Convert())


@pytest.mark.spec("C4")
def test_a_conversion_is_rolled_back_until_somebody_writes(tmp_path: Path) -> None:
    folder = hive(tmp_path / "t")
    ENGINE.execute(str(folder), Convert())
    roll_back_conversion(folder)
    assert not (folder / "_delta_log").exists()
    assert len(list(folder.rglob("*.parquet"))) == 3
    ENGINE.execute(str(folder), Convert())
    more = rows(100, 1, day=[dt.date(2026, 2, 1)], n=[3])
    ENGINE.execute(str(folder), Append(more))
    with pytest.raises(errors.WriteConflict):
        roll_back_conversion(folder)
    assert len(ids(folder)) == 31


# -- beside


def sources(folder: Path) -> list[Migrate]:
    hive(folder / "parquet" / "events")
    unsigned = rows(0, 50, u=pa.array(range(50), pa.uint32()))
    written(folder / "parquet" / "orders", {"a.parquet": unsigned, "b.parquet": unsigned})
    return [
        Migrate(str(folder / "parquet" / "events"), str(folder / "lake" / "events")),
        Migrate(
            str(folder / "parquet" / "orders"),
            str(folder / "lake" / "orders"),
            ("name",),
            {"delta.enableChangeDataFeed": "true"},
        ),
    ]


@pytest.mark.spec("C4")
def test_tables_are_copied_validated_and_switched(tmp_path: Path) -> None:
    tables, journal = sources(tmp_path), str(tmp_path / "journal")
    before = {p: p.read_bytes() for p in (tmp_path / "parquet").rglob("*.parquet")}
    seen: list[tuple[str, str]] = []
    copied = migrate.migrate(
        tables,
        journal,
        switch=False,
        told=lambda one: seen.append((Path(one.target).name, one.state)),
    )
    assert [one.state for one in copied] == ["validated", "validated"]
    assert seen == [
        ("events", "copied"),
        ("orders", "copied"),
        ("events", "validated"),
        ("orders", "validated"),
    ]
    with pytest.raises(errors.TableMissing):
        ids(tmp_path / "lake" / "events")
    done = migrate.migrate([], journal)
    assert [(one.state, one.rows) for one in done] == [("switched", 30), ("switched", 100)]
    assert migrate.migration(journal) == done
    assert set(done[0].checksums) == {"id", "name", "ratio", "at", "day", "n"}
    assert ids(tmp_path / "lake" / "events", where="n is null") == list(range(20, 30))
    assert ids(tmp_path / "lake" / "orders", where="name = 'n7'") == [7, 7]
    assert ENGINE.read(tables[1].target, Read()).schema.field("u").type == pa.int64()
    ENGINE.execute(tables[0].target, Append(rows(50, 1, day=[dt.date(2026, 1, 1)], n=[1])))
    assert {p: p.read_bytes() for p in (tmp_path / "parquet").rglob("*.parquet")} == before
    with pytest.raises(errors.WriteConflict, match="written to since"):
        migrate.roll_back(journal)
    assert len(ids(tmp_path / "lake" / "orders")) == 100


@pytest.mark.spec("C4")
@pytest.mark.parametrize(
    ("text", "said"), [("", "an empty text in"), (NULL_FOLDER, f"{NULL_FOLDER} in")]
)
def test_texts_that_partition_values_cannot_hold_are_refused_by_name(
    tmp_path: Path, text: str, said: str
) -> None:
    data = rows(0, 3, country=["NO", text, None])
    source = written(tmp_path / "parquet", {"a.parquet": data})
    moved = Migrate(str(source), str(tmp_path / "t"), ("country",))
    with pytest.raises(errors.ValuesRefused, match=f"{said} 'country'") as told:
        migrate.migrate([moved], str(tmp_path / "journal"))
    assert told.value.table_changed is False
    assert not (tmp_path / "t").exists()
    table = str(tmp_path / "u")
    ENGINE.execute(table, Create(data.schema))
    ENGINE.execute(table, Append(data))
    with pytest.raises(errors.ValuesRefused, match=f"{said} 'country'"):
        ENGINE.execute(table, Repartition(("country",)))
    assert len(list(Path(table).rglob("*.parquet"))) == 1
    ENGINE.execute(table, Update({"country": "null"}, f"country = '{text}'"))
    ENGINE.execute(table, Repartition(("country",)))
    assert ids(Path(table), where="country is null") == [1, 2]


@pytest.mark.spec("C4")
def test_a_copy_that_differs_is_never_seen(tmp_path: Path) -> None:
    tables, journal = sources(tmp_path), str(tmp_path / "journal")
    real = migrate.copied

    def changed(*arguments: Any) -> Any:
        found = real(*arguments)
        path = arguments[1] / found[0].path
        data = pq.read_table(path, partitioning=None)
        data = data.set_column(1, "name", pa.array(["x"] * data.num_rows))
        pq.write_table(data, path)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "copied", changed)
        with pytest.raises(errors.MigrationDiffers, match="'name'"):
            migrate.migrate(tables[:1], journal)
    assert not (tmp_path / "lake" / "events" / "_delta_log").exists()
    assert [one.state for one in migrate.roll_back(journal)] == ["rolled_back"]
    assert not (tmp_path / "lake" / "events").exists()
    assert len(list((tmp_path / "parquet" / "events").rglob("*.parquet"))) == 3


@pytest.mark.spec("C4")
def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    tables, journal = sources(tmp_path), str(tmp_path / "journal")
    migrate.migrate(tables, journal, switch=False)
    written(tmp_path / "parquet" / "events", {"day=2026-01-30/n=1/late.parquet": rows(99, 1)})
    with pytest.raises(errors.FilesRefused, match="late"):
        migrate.migrate(tables, journal)
    assert not (tmp_path / "lake" / "events" / "_delta_log").exists()
    with pytest.raises(errors.BadRequest, match="another migration"):
        migrate.migrate(tables[:1], journal)
    migrate.roll_back(journal)
    with pytest.raises(errors.BadRequest, match="rolled back"):
        migrate.migrate(tables, journal)


RUN = """
import json, os, sys
from raylake.tables.migrate import Migrate, migrate
asked = json.loads(sys.argv[1])
migrate([Migrate(*one) for one in asked], sys.argv[2])
sys.stdout.flush(); os._exit(0)
"""


@pytest.mark.spec("C4")
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("then", ["goes on", "is rolled back"])
def test_a_migration_that_was_killed_goes_on_or_back(tmp_path: Path, skip: int, then: str) -> None:
    tables, journal = sources(tmp_path), str(tmp_path / "journal")
    faults = tmp_path / "faults"
    arm(faults, "migrate.copied", skip=skip)
    asked = json.dumps(
        [[one.source, one.target, one.partition_by, dict(one.properties)] for one in tables]
    )
    killed = subprocess.run(
        [sys.executable, "-c", RUN, asked, journal],
        env={**os.environ, "RAYLAKE_FAULTS": str(faults)},
        check=False,
    )
    assert killed.returncode == -9
    assert len(fired(faults)) == 1
    if then == "goes on":
        done = migrate.migrate(tables, journal)
        assert [one.state for one in done] == ["switched", "switched"]
        assert ids(tmp_path / "lake" / "events") == list(range(30))
        assert len(ids(tmp_path / "lake" / "orders")) == 100
        held = sum(1 for _ in (tmp_path / "lake").rglob("*.parquet"))
        assert held == sum(one.files for one in done)
    else:
        migrate.roll_back(journal)
        assert list((tmp_path / "lake").iterdir()) == []


@pytest.mark.spec("C4")
def test_what_the_disk_has_no_room_for_is_refused_before(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    disk = small_disk("small")
    noise = pa.array([os.urandom(10_000) for _ in range(1_000)])
    data = pa.table({"id": pa.array(range(1_000)), "noise": noise})
    source = written(tmp_path / "parquet", {"a.parquet": data, "b.parquet": data})
    with pytest.raises(errors.NotEnoughSpace, match="bytes free") as caught:
        migrate.migrate([Migrate(str(source), str(disk.place / "t"))], str(tmp_path / "j"))
    assert caught.value.context["needed_bytes"] > 20_000_000
    assert 0 < caught.value.context["free_bytes"] < 17_000_000
    assert not (disk.place / "t").exists()
    assert not (tmp_path / "j").exists()
    table = str(disk.place / "t")
    schema = pa.schema([("id", pa.int64()), ("noise", pa.binary())])
    ENGINE.execute(table, Create(schema))
    for start in (0, 450):
        ENGINE.execute(table, Append(data.slice(start, 450)))
    with pytest.raises(errors.NotEnoughSpace):
        ENGINE.execute(table, Compact())
    assert len(ids(disk.place / "t")) == 900
    assert ENGINE.history(table)[0].version == 2


def test_an_unreadable_file_of_a_copy_is_named(tmp_path: Path) -> None:
    tables, journal = sources(tmp_path), str(tmp_path / "journal")
    real = migrate.copied

    def broken(*arguments: Any) -> Any:
        found = real(*arguments)
        (arguments[1] / found[0].path).write_bytes(b"PAR1torn")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "copied", broken)
        with pytest.raises(DependencyUnreachable, match="cannot be read"):
            migrate.migrate(tables[:1], journal)
    assert not (tmp_path / "lake" / "events" / "_delta_log").exists()
