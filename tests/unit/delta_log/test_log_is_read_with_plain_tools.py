from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.delta.log_reader import LogReader
from raylake.errors import LogDamaged, NotOurTable, UnsupportedTable

PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
COLUMN = {"name": "n", "type": "long", "nullable": True, "metadata": {}}
METADATA = {
    "metaData": {
        "id": "t-1",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": [COLUMN]}),
        "partitionColumns": [],
        "configuration": {"delta.appendOnly": "true"},
    }
}


def add(path: str, rows: int | None = 1, **more: Any) -> dict[str, Any]:
    stats = None if rows is None else json.dumps({"numRecords": rows})
    action = {"path": path, "size": 10, "partitionValues": {}, "modificationTime": 1}
    action |= {"dataChange": True, "stats": stats}
    return {"add": {**action, **more}}


def txn(app: str, version: int) -> dict[str, Any]:
    return {"txn": {"appId": app, "version": version}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "_delta_log"
    folder.mkdir()
    commit(folder, 0, PROTOCOL, METADATA, add("a", 3), add("b", 4), txn("x", 1))
    commit(folder, 1, {"remove": {"path": "a", "dataChange": True}}, add("c", 5), txn("x", 2))
    return folder


def commit(log: Path, version: int, *actions: dict[str, Any]) -> Path:
    path = log / f"{version:020d}.json"
    path.write_text("\n".join(json.dumps(a, ensure_ascii=False) for a in actions))
    return path


def rows(log: Path, version: int | None = None) -> dict[str, int | None]:
    files = LogReader(str(log.parent)).snapshot(version).files
    return dict(zip(files["path"].to_pylist(), files["num_records"].to_pylist(), strict=True))


@pytest.mark.parametrize("first", ["add", "remove"])
def test_a_file_that_gets_a_deletion_vector_stays(log: Path, first: str) -> None:
    vector = {"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 2}
    both = [add("c", 5, deletionVector=vector), {"remove": {"path": "c", "dataChange": True}}]
    commit(log, 2, *(both if first == "add" else reversed(both)))
    assert rows(log) == {"b": 4, "c": 5}
    commit(log, 3, {"remove": {"path": "c", "dataChange": True, "deletionVector": vector}})
    assert rows(log) == {"b": 4}


def test_the_newest_action_of_a_path_decides_and_older_versions_can_be_read(log: Path) -> None:
    assert rows(log) == {"b": 4, "c": 5}
    assert rows(log, 0) == {"a": 3, "b": 4}
    snapshot = LogReader(str(log.parent)).snapshot()
    assert (snapshot.version, snapshot.txns, snapshot.metadata.id) == (1, {"x": 2}, "t-1")
    assert snapshot.metadata.configuration == {"delta.appendOnly": "true"}
    assert (snapshot.protocol.min_reader, snapshot.protocol.min_writer) == (1, 2)
    assert (snapshot.checkpoint, snapshot.notes) == (None, ())


def test_a_checkpoint_by_delta_rs_gives_the_same_table_as_its_commits(tmp_path: Path) -> None:
    for number in range(4):
        data = pa.table({"n": [number, number], "part": ["a b", "c/d"]})
        write_deltalake(tmp_path, data, mode="append", partition_by=["part"])
    reader = LogReader(str(tmp_path))
    before = reader.snapshot()
    DeltaTable(tmp_path).create_checkpoint()
    write_deltalake(tmp_path, pa.table({"n": [9], "part": ["e"]}), mode="append")
    for version in range(4):
        (tmp_path / "_delta_log" / f"{version:020d}.json").unlink()
    after = reader.snapshot(3)
    assert after.checkpoint == 3
    assert after.files.sort_by("path").equals(before.files.sort_by("path"))
    assert (after.txns, after.metadata) == (before.txns, before.metadata)
    assert reader.snapshot().files.num_rows == 9
    assert reader.first_retained() == 4


def multi_part(log: Path, version: int, parts: list[pa.Table]) -> list[Path]:
    count = len(parts)
    paths = []
    for number, part in enumerate(parts, 1):
        paths.append(log / f"{version:020d}.checkpoint.{number:010d}.{count:010d}.parquet")
        pq.write_table(part, paths[-1])
    return paths


def test_a_multi_part_checkpoint_counts_only_when_all_its_parts_are_there(log: Path) -> None:
    DeltaTable(log.parent).create_checkpoint()
    (whole,) = log.glob("*.checkpoint.parquet")
    table = pq.read_table(whole)
    whole.unlink()
    paths = multi_part(log, 1, [table.slice(0, 2), table.slice(2)])
    snapshot = LogReader(str(log.parent)).snapshot()
    assert (snapshot.checkpoint, snapshot.notes) == (1, ())
    assert rows(log) == {"b": 4, "c": 5}

    paths[0].unlink()
    snapshot = LogReader(str(log.parent)).snapshot()
    assert snapshot.checkpoint is None
    assert [note.split(":")[0] for note in snapshot.notes] == [
        "_last_checkpoint names checkpoint 1, which is not there; the folder was listed",
        "checkpoint 1 is incomplete",
    ]
    assert rows(log) == {"b": 4, "c": 5}


@pytest.mark.parametrize("hint", ["", "{", "[]", '{"version": "x"}', '{"version": 77}'])
def test_a_bad_last_checkpoint_is_tolerated_and_noted(log: Path, hint: str) -> None:
    (log / "_last_checkpoint").write_text(hint)
    snapshot = LogReader(str(log.parent)).snapshot()
    assert snapshot.files.num_rows == 2
    assert "_last_checkpoint" in snapshot.notes[0]


def test_a_damaged_checkpoint_is_passed_over_while_the_commits_lead_there(log: Path) -> None:
    checkpoint = log / f"{1:020d}.checkpoint.parquet"
    checkpoint.write_bytes(b"PAR1 torn")
    snapshot = LogReader(str(log.parent)).snapshot()
    assert snapshot.files.num_rows == 2
    assert "checkpoint 1 cannot be read" in snapshot.notes[0]
    (log / f"{0:020d}.json").unlink()
    with pytest.raises(LogDamaged, match="no checkpoint leads to version 1") as raised:
        LogReader(str(log.parent)).snapshot()
    assert raised.value.context["kind"] == "checkpoint"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ('{"add":{"pa', "torn"),
        ('{"a":1}\n{"tx', "torn"),
        ("[1]", "torn"),
        (None, "missing"),
    ],
)
def test_a_damaged_commit_is_named_with_file_version_and_what_to_do(
    log: Path, text: str | None, kind: str
) -> None:
    commit(log, 2, txn("x", 3))
    commit(log, 3, txn("x", 4))
    path = log / f"{2:020d}.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(LogDamaged) as raised:
        LogReader(str(log.parent)).snapshot()
    error = pickle.loads(pickle.dumps(raised.value))
    assert (error.context["version"], error.context["kind"]) == (2, kind)
    assert path.name in error.message
    assert "stop every writer" in error.hint
    assert rows(log, 1) == {"b": 4, "c": 5}


def test_the_record_count_is_never_taken_from_a_column_of_that_name(log: Path) -> None:
    odd = {
        "first": '{"minValues":{"numRecords":77},"numRecords":8}',
        "spaced": ' { "numRecords" : 9 }',
        "text": '{"minValues":{"s":"\\"numRecords\\":5"}}',
        "none": None,
        "broken": '{"numRecords":',
        "list": "[1]",
    }
    commit(log, 2, *(add(name, stats=stats) for name, stats in odd.items()))
    found = rows(log)
    assert [found[name] for name in odd] == [8, 9, None, None, None, None]


def test_line_separators_inside_a_value_do_not_tear_a_commit(log: Path) -> None:
    commit(log, 2, {"commitInfo": {"operation": "a\u2028b\u0085c"}}, txn("x", 3))
    assert LogReader(str(log.parent)).snapshot().txns == {"x": 3}


def test_rows_taken_by_a_deletion_vector_are_told(log: Path) -> None:
    commit(log, 2, add("d", 10, deletionVector={"storageType": "u", "cardinality": 4}))
    files = LogReader(str(log.parent)).snapshot().files
    assert (
        dict(zip(files["path"].to_pylist(), files["deleted_records"].to_pylist(), strict=True))["d"]
        == 4
    )


def test_commits_carry_our_metadata_as_text_or_as_an_object(log: Path) -> None:
    commit(log, 2, {"commitInfo": {"raylake": {"kind": "data"}}}, txn("x", 3))
    commit(log, 3, {"commitInfo": {"raylake": '{"kind":"epoch"}'}})
    commit(log, 4, {"commitInfo": {"raylake": "no JSON", "operation": "WRITE"}}, add("z"))
    found = list(LogReader(str(log.parent)).commits(1))
    assert [c.raylake and c.raylake["kind"] for c in found] == [None, "data", "epoch", None]
    assert [c.version for c in found] == [1, 2, 3, 4]
    assert [a["path"] for a in found[3].adds()] == ["z"]
    assert [r["path"] for r in found[0].removes()] == ["a"]


def test_a_folder_without_a_log_and_a_newer_checkpoint_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotOurTable, match="holds no Delta table"):
        LogReader(str(tmp_path)).snapshot()
    log = tmp_path / "_delta_log"
    log.mkdir()
    name = f"{3:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet"
    (log / name).write_bytes(b"")
    commit(log, 4, txn("x", 1))
    with pytest.raises(UnsupportedTable, match="v2 checkpoint"):
        LogReader(str(tmp_path)).snapshot()


def test_a_log_without_metadata_is_damaged(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    commit(log, 0, txn("x", 1))
    with pytest.raises(LogDamaged, match="no metaData"):
        LogReader(str(tmp_path)).snapshot()
