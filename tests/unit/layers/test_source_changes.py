"""What versions of a source brought and took, read from real logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylake.layers import source_changes
from raylake.layers.derived import NEVER, SOURCE_VERSION, SourceRows, Span
from raylake.layers.errors import SourceGap, SourceReplaced
from raylake.layers.source_changes import look_for, read
from raylake.layers.source_parts import Limit
from raylake.tables.errors import TableMissing, UnknownColumn
from raylake.tables.requests import Append, Create, Delete, Overwrite, Restore, Update, Upsert
from raylake.tables.upkeep_requests import (
    AddColumns,
    Checkpoint,
    Compact,
    SetProperties,
    Vacuum,
    WidenColumns,
)
from tests.harness.derived_steps import ENGINE, forget
from tests.harness.tables import FEED, SCHEMA, orders
from tests.harness.vectors import delete_by_vector

pytestmark = pytest.mark.spec("D1")


def made(path: Path, **properties: str) -> Path:
    ENGINE.execute(str(path), Create(SCHEMA, properties=properties))
    return path


def do(path: Path, *operations: Any) -> None:
    for one in operations:
        ENGINE.execute(str(path), one)


def changes(path: Path, after: int, last: int, columns: Sequence[str] | None = None) -> SourceRows:
    span = look_for(path, "bronze.orders", NEVER)
    assert span is not None
    return read(Span("bronze.orders", str(path), span.table_id, after, last), columns)


def seen(path: Path, after: int, last: int) -> tuple[list[Any], list[Any]]:
    found = changes(path, after, last, ["id", "amount"])
    return tuple(
        sorted((r[SOURCE_VERSION], r["id"], r["amount"]) for r in rows.to_pylist())
        for rows in (found.came, found.left)
    )  # type: ignore[return-value]


@pytest.mark.parametrize("feed", [False, True])
def test_each_kind_of_change_is_told_with_or_without_a_feed(tmp_path: Path, feed: bool) -> None:
    table = made(tmp_path / "t", **(FEED if feed else {}))
    do(
        table,
        Append(orders([1, 2, 3])),
        Append(orders([4])),
        Update({"amount": "7"}, where="id = 2"),
        Delete("id = 3"),
        Upsert(orders([4, 5], 9), ("id",)),
        Compact(),
        Restore(version=2),
        Overwrite(orders([8])),
    )
    assert seen(table, 0, 2) == ([(1, 1, 1), (1, 2, 1), (1, 3, 1), (2, 4, 1)], [])
    assert seen(table, 2, 3) == ([(3, 2, 7)], [(3, 2, 1)])
    assert seen(table, 3, 4) == ([], [(4, 3, 1)])
    assert seen(table, 4, 5) == ([(5, 4, 9), (5, 5, 9)], [(5, 4, 1)])
    assert seen(table, 5, 6) == ([], [])
    came, left = seen(table, 6, 7)
    assert came == [(7, 2, 1), (7, 3, 1), (7, 4, 1)]
    assert left == [(7, 2, 7), (7, 4, 9), (7, 5, 9)]
    came, left = seen(table, 7, 8)
    assert (came, left) == ([(8, 8, 1)], [(8, n, 1) for n in (1, 2, 3, 4)])
    # The first step takes it whole.
    assert seen(table, NEVER, 8) == ([(8, 8, 1)], [])
    assert seen(table, NEVER, 3) == ([(3, 1, 1), (3, 2, 7), (3, 3, 1), (3, 4, 1)], [])


def test_a_row_that_a_version_took_and_brought_is_told_of_in_no_order_of_rows(
    tmp_path: Path,
) -> None:
    table = made(tmp_path / "t")
    do(table, *[Append(orders([n])) for n in range(1, 5)])
    do(table, Update({"amount": "7"}, where="id = 2"), Compact(), Restore(version=4))
    for _ in range(30):
        assert seen(table, 6, 7) == ([(7, 2, 1)], [(7, 2, 7)])


def test_deleted_rows_of_a_file_are_left_out(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, Append(orders([1, 2, 3, 4])))
    delete_by_vector(table, [1])
    delete_by_vector(table, [1, 3])
    assert seen(table, 0, 1)[0] == [(1, n, 1) for n in (1, 2, 3, 4)]
    assert seen(table, 1, 2) == ([], [(2, 2, 1)])
    assert seen(table, 1, 3) == ([], [(2, 2, 1), (3, 4, 1)])
    assert seen(table, NEVER, 3) == ([(3, 1, 1), (3, 3, 1)], [])


def test_columns_are_those_of_the_last_version(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(
        table,
        Append(orders([1])),
        AddColumns(pa.schema([("note", pa.string())])),
        WidenColumns({"amount": pa.int64()}),
    )
    rows = orders([2], note=["x"])
    do(table, Append(rows.set_column(2, "amount", pa.array([2**40]))))
    found = changes(table, 0, 4)
    assert found.came.schema.field("amount").type == pa.int64()
    values = {r["id"]: (r["amount"], r["note"]) for r in found.came.to_pylist()}
    assert values == {1: (1, None), 2: (2**40, "x")}
    assert found.came.column_names == [*SCHEMA.names, "note", SOURCE_VERSION]


def test_renamed_columns_are_found_by_their_names_in_files(tmp_path: Path) -> None:
    place = pa.struct([("col-c", pa.string())])
    rows = pa.table({"col-a": [1, 2], "col-p": pa.array([{"col-c": "x"}, None], place)})
    log = tmp_path / "t" / "_delta_log"
    log.mkdir(parents=True)
    pq.write_table(rows, tmp_path / "t" / "f.parquet")

    def column(name: str, physical: str, kind: Any) -> dict[str, Any]:
        metadata = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": physical}
        return {"name": name, "type": kind, "nullable": True, "metadata": metadata}

    inner = {"type": "struct", "fields": [column("city", "col-c", "string")]}
    fields = [column("id", "col-a", "long"), column("region", "col-r", "string")]
    fields.append(column("place", "col-p", inner))
    metadata = {
        "id": "m",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": ["region"],
        "configuration": {"delta.columnMapping.mode": "name"},
        "createdTime": 1,
    }
    add = {"path": "f.parquet", "size": 9, "dataChange": True, "modificationTime": 1}
    add["partitionValues"] = {"col-r": "no"}
    commits = [
        [{"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, {"metaData": metadata}],
        [{"add": add}],
    ]
    for version, actions in enumerate(commits):
        text = "".join(json.dumps(one) + "\n" for one in actions)
        (log / f"{version:020d}.json").write_text(text)
    found = read(Span("b.t", str(tmp_path / "t"), "m", 0, 1)).came
    assert found.drop_columns([SOURCE_VERSION]).to_pylist() == [
        {"id": 1, "region": "no", "place": {"city": "x"}},
        {"id": 2, "region": "no", "place": None},
    ]


def test_only_named_columns_are_read(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, Append(orders([1, 2])))
    assert changes(table, 0, 1, ["place"]).came.column_names == ["place", SOURCE_VERSION]
    nothing = changes(table, 0, 1, [])
    assert nothing.came.column_names == [SOURCE_VERSION]
    assert nothing.came.num_rows == 2
    with pytest.raises(UnknownColumn, match="no column 'amonut'"):
        changes(table, 0, 1, ["amonut"])


def test_a_partitioned_source(tmp_path: Path) -> None:
    ENGINE.execute(str(tmp_path / "t"), Create(SCHEMA, partition_by=("region",), properties=FEED))
    do(tmp_path / "t", Append(orders([1, 12])), Delete("id = 12"))
    found = changes(tmp_path / "t", 0, 2, ["region", "id"])
    assert found.came.select(["region", "id"]).sort_by("id").to_pylist() == [
        {"region": "r1", "id": 1},
        {"region": "r2", "id": 12},
    ]
    assert found.left.to_pylist() == [{"region": "r2", "id": 12, SOURCE_VERSION: 2}]


def test_spans_are_cut_at_versions(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, *[Append(orders(range(n * 10, n * 10 + 5))) for n in range(4)])

    def last(after: int, **limits: Any) -> int | None:
        span = look_for(table, "bronze.orders", after, **limits)
        return None if span is None else span.last

    assert last(NEVER) == 4
    assert last(NEVER, limit=Limit(rows=11)) == 2
    assert last(NEVER, limit=Limit(rows=1)) == 0
    assert last(0, limit=Limit(rows=1)) == 1
    assert last(0, limit=Limit(rows=14)) == 2
    assert last(0, limit=Limit(rows=15)) == 3
    assert last(1, limit=Limit(versions=2)) == 3
    assert last(4) is None


def test_the_first_step_is_not_cut_where_old_files_are_gone(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, *[Append(orders([n])) for n in range(4)], Compact())
    assert look_for(table, "b.t", NEVER, limit=Limit(rows=2)).last == 2  # type: ignore[union-attr]
    do(table, Vacuum(retention_hours=0, allow_short_retention=True))
    span = look_for(table, "b.t", NEVER, limit=Limit(rows=2))
    assert span is not None
    assert sorted(read(span, ["id"]).came.column("id").to_pylist()) == [0, 1, 2, 3]


def test_versions_without_rows_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_changes, "IDLE_VERSIONS", 3)
    table = made(tmp_path / "t")
    do(table, Append(orders([1])), Append(orders([2])), Compact())
    assert look_for(table, "b.t", 2) is None
    do(table, Append(orders([3])))
    span = look_for(table, "b.t", 2)
    assert span is not None
    assert (span.after, span.last) == (2, 4)
    for n in range(3):
        assert look_for(table, "b.t", 4) is None
        do(table, SetProperties({"my.n": str(n)}))
    span = look_for(table, "b.t", 4)
    assert span is not None
    assert read(span).came.num_rows == 0


def test_what_vacuum_took_is_named(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, Append(orders([1])), Append(orders([2])), Compact(), Append(orders([3])))
    do(table, Vacuum(retention_hours=0, allow_short_retention=True))
    with pytest.raises(SourceGap, match=r"versions 1 to \d are needed and gone") as gap:
        changes(table, 0, 4)
    assert gap.value.first == 1
    assert gap.value.oldest == gap.value.last + 1
    # From the version that is named on it can be read.
    assert seen(table, gap.value.oldest - 1, 4)[0] == [(4, 3, 1)]
    # Who had processed the old files misses nothing.
    assert seen(table, 2, 4)[0] == [(4, 3, 1)]


def test_what_log_clean_up_took_is_named(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, *[Append(orders([n])) for n in range(5)], Checkpoint(), Append(orders([9])))
    forget(table, 5)
    with pytest.raises(SourceGap, match="versions 2 to 4 are needed and gone") as gap:
        look_for(table, "bronze.orders", 1)
    assert (gap.value.first, gap.value.last, gap.value.oldest) == (2, 4, 5)
    span = look_for(table, "bronze.orders", 4)
    assert span is not None
    assert seen(table, 4, 6)[0] == [(5, 4, 1), (6, 9, 1)]


def test_another_table_under_the_name_is_no_progress(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, Append(orders([1])))
    first = look_for(table, "b.t", NEVER)
    other = made(tmp_path / "u")
    do(other, Append(orders([1])), Append(orders([2])))
    assert first is not None
    with pytest.raises(SourceReplaced, match="another table lies there"):
        look_for(other, "b.t", 1, table_id=first.table_id)
    with pytest.raises(SourceReplaced, match="commits were taken away"):
        look_for(other, "b.t", 7)
    with pytest.raises(TableMissing):
        look_for(tmp_path / "nothing", "b.t", NEVER)


def test_the_watermark_travels_with_the_rows(tmp_path: Path) -> None:
    table = made(tmp_path / "t")
    do(table, Append(orders([1])))
    file = table / "_delta_log" / f"{1:020d}.json"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["raylake"] = {"kind": "data", "watermark_ms": 1234}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    do(table, Compact(), Append(orders([2])))
    assert changes(table, 0, 1).watermark_ms == 1234
    assert changes(table, 1, 2).watermark_ms == 1234
    assert changes(made(tmp_path / "u"), NEVER, 0).watermark_ms is None
