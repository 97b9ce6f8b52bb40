"""The ten planted damages of DESIGN §4, and the level of ``verify`` that finds each."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from raylake.delta.ledger import OWNER_APP, app_id, owner_number
from raylake.delta.verify import VerifyReport, verify
from tests.integration.verify.lake import (
    PIPELINE,
    TOPIC,
    TOPIC_ID,
    Lake,
    Span,
    actions,
    add,
    added_files,
    under_another_name,
    write_actions,
)

pytestmark = pytest.mark.spec("A3")

FIRST_DATA_VERSION = 3
LAST_VERSION = 7


@pytest.fixture(autouse=True)
def undamaged(lake: Lake) -> None:
    assert lake.verify("data").findings == ()
    assert lake.owner.version == LAST_VERSION


def differences(report: VerifyReport) -> set[str]:
    assert not report.ok
    return {f.kind for f in report.findings if f.is_difference}


def next_txn(partition: int) -> str:
    return app_id(PIPELINE, Span(partition, 0, 0).source, "next")


def rewrite(file: Path, change: object, column: str = "_offset") -> None:
    """Change one column of a Parquet file; its size in the log is set right by the caller."""
    table = pq.read_table(file)
    values = change(table.column(column))  # type: ignore[operator]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, table.schema.field(column), values), file)


def data_file(lake: Lake, version: int) -> Path:
    (file,) = added_files(lake.log(version))
    return lake.table / file.path


def set_size(commit: Path, file: Path) -> None:
    """Let the log agree with a file that was changed."""
    found = actions(commit)
    for action in found:
        if "add" in action and file.name in action["add"]["path"]:
            action["add"]["size"] = file.stat().st_size
    write_actions(commit, found)


def test_1_a_file_added_twice_under_another_name(lake: Lake) -> None:
    (file,) = added_files(lake.log(4))
    add(lake.table, [under_another_name(lake.table, file)], {})
    assert differences(lake.verify("log")) == {"rows"}
    assert {"duplicate", "partition_rows"} <= differences(lake.verify("data"))


def test_1_a_file_added_twice_under_its_own_name(lake: Lake) -> None:
    (again,) = [a for a in actions(lake.log(4)) if "add" in a]
    write_actions(lake.log(5), [*actions(lake.log(5)), again])
    assert differences(lake.verify("log")) == {"duplicate_file", "commit_rows"}


def test_1_a_file_added_twice_in_a_checkpoint(lake: Lake) -> None:
    lake.maintain()
    (checkpoint,) = (lake.table / "_delta_log").glob("*.checkpoint.parquet")
    table = pq.read_table(checkpoint)
    adds = table.filter(pc.is_valid(pc.struct_field(table.column("add"), "path")))
    pq.write_table(pa.concat_tables([table, adds.slice(0, 1)]), checkpoint)
    assert {"duplicate_file", "rows"} <= differences(lake.verify("log"))


def test_2_a_file_dropped_from_the_log(lake: Lake) -> None:
    write_actions(lake.log(5), [a for a in actions(lake.log(5)) if "add" not in a])
    report = lake.verify("log")
    assert differences(report) == {"rows", "commit_rows"}
    (lost,) = (f for f in report.findings if f.kind == "commit_rows")
    assert (lost.where, lost.expected) == ("version 5", "136 rows, by its ranges")
    assert lost.found == "0"


def test_2_a_file_gone_from_the_disk(lake: Lake) -> None:
    data_file(lake, 5).unlink()
    assert lake.verify("log").ok
    assert differences(lake.verify("data")) == {"file", "partition_rows"}


def test_3_rows_deleted_by_another_writer(lake: Lake) -> None:
    DeltaTable(lake.table).delete("_offset = 20 AND _partition = 0")
    assert differences(lake.verify("log")) == {"rows"}
    report = lake.verify("data")
    assert differences(report) == {"rows", "partition_rows"}
    (where,) = (f for f in report.findings if f.kind == "partition_rows")
    assert (where.where, where.found) == (f"{TOPIC}[0]", "484 rows")


def test_3_rows_deleted_inside_a_file(lake: Lake) -> None:
    file = data_file(lake, 5)
    pq.write_table(pq.read_table(file).slice(1), file)
    set_size(lake.log(5), file)
    assert lake.verify("log").ok
    assert differences(lake.verify("data")) == {"file", "partition_rows"}


def test_4_an_offset_moved_in_the_ledger(lake: Lake) -> None:
    add(lake.table, [], {next_txn(0): 550})
    assert differences(lake.verify("log")) == {"equation", "foreign_commit"}
    lake.maintain()
    assert "equation" in differences(lake.verify("log"))


@pytest.mark.parametrize(
    ("moved_to", "kind"), [(21, "duplicate"), (7, "row_and_dead_letter"), (1000, "range")]
)
def test_4_an_offset_moved_in_a_file(lake: Lake, moved_to: int, kind: str) -> None:
    file = data_file(lake, FIRST_DATA_VERSION)
    rewrite(file, lambda c: pc.if_else(pc.equal(c, 20), moved_to, c))
    set_size(lake.log(FIRST_DATA_VERSION), file)
    assert lake.verify("log").ok
    assert differences(lake.verify("data")) == {kind}


def test_5_a_txn_rewound(lake: Lake) -> None:
    add(lake.table, [], {next_txn(0): 400})
    assert differences(lake.verify("log")) == {"equation", "foreign_commit"}


def test_5_a_txn_rewound_so_that_the_equation_still_holds(lake: Lake) -> None:
    rows = app_id(PIPELINE, Span(0, 0, 0).source, "rows")
    add(lake.table, [], {next_txn(0): 480, rows: 465})
    report = lake.verify("log")
    assert all(p.balanced for p in report.partitions)
    assert differences(report) == {"rows", "foreign_commit"}
    lake.maintain()
    assert "rows" in differences(lake.verify("log"))


def test_5_the_owner_txn_rewound(lake: Lake) -> None:
    add(lake.table, [], {OWNER_APP: owner_number(1, 2)})
    assert differences(lake.verify("log")) == {"foreign_commit"}


def test_6_a_dead_letter_removed(lake: Lake) -> None:
    DeltaTable(lake.letters).delete("offset = 107 AND partition = 0")
    assert differences(lake.verify("log")) == {"dead_letters"}
    report = lake.verify("data")
    (one,) = (f for f in report.findings if f.where.startswith(f"{TOPIC}[0]"))
    assert (one.kind, one.found) == ("dead_letters", "9")


def test_7_a_dead_letter_doubled(lake: Lake) -> None:
    log = max((lake.letters / "_delta_log").glob("*.json"))
    (file,) = added_files(log)
    add(lake.letters, [under_another_name(lake.letters, file)], {})
    assert differences(lake.verify("log")) == {"dead_letters"}
    assert {"dead_letters", "dead_letter_duplicate"} == differences(lake.verify("data"))


def test_7_a_dead_letter_doubled_and_another_removed(lake: Lake) -> None:
    log = max((lake.letters / "_delta_log").glob("*.json"))
    (file,) = added_files(log)
    rewrite(lake.letters / file.path, lambda c: pc.if_else(pc.equal(c, 408), 407, c), "offset")
    set_size(log, lake.letters / file.path)
    assert lake.verify("log").ok
    report = lake.verify("data")
    assert differences(report) == {"dead_letter_duplicate"}
    assert "407 in " in report.findings[0].found


def foreign(commit: Path) -> None:
    """What another engine's commit without data leaves under this name."""
    info = {"operation": "SET TBLPROPERTIES", "engineInfo": "Apache-Spark/3.5.7", "timestamp": 1}
    write_actions(commit, [{"commitInfo": info}])


def test_8_a_commit_overwritten_under_later_ones(lake: Lake) -> None:
    foreign(lake.log(5))
    assert differences(lake.verify("log")) == {"owner_number", "chain", "rows"}


def test_8_the_last_commit_overwritten_by_one_with_data(lake: Lake) -> None:
    found = actions(lake.log(LAST_VERSION))
    foreign(lake.log(LAST_VERSION))
    kept = [a for a in found if "add" in a]
    write_actions(lake.log(LAST_VERSION), [*actions(lake.log(LAST_VERSION)), *kept])
    assert {"rows", "dead_letters"} <= differences(lake.verify("log"))


def test_8_the_last_commit_overwritten_after_its_checkpoint(lake: Lake) -> None:
    DeltaTable(lake.table).create_checkpoint()
    foreign(lake.log(LAST_VERSION))
    assert "final_state" in differences(lake.verify("log"))


def test_8_the_last_commit_overwritten_whose_dead_letters_were_stored(lake: Lake) -> None:
    foreign(lake.log(LAST_VERSION))
    assert differences(lake.verify("log")) == {"dead_letters"}


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -40])
def test_9_a_torn_last_commit(lake: Lake, keep: int) -> None:
    commit = lake.log(LAST_VERSION)
    commit.write_bytes(commit.read_bytes()[:keep])
    report = lake.verify("log")
    assert "log_damaged" in differences(report)
    (damage,) = (f for f in report.findings if f.kind == "log_damaged")
    assert damage.where == f"_delta_log/{LAST_VERSION:020d}.json"
    assert "set the file aside" in damage.hint
    assert report.relied_on["version"] == LAST_VERSION - 1
    assert [p.next for p in report.partitions] == [400, 660]


def test_9_a_last_commit_torn_between_its_lines(lake: Lake) -> None:
    commit = lake.log(LAST_VERSION)
    lines = commit.read_text().split("\n")
    for kept in range(1, len(lines)):
        commit.write_text("\n".join(lines[:kept]))
        assert differences(lake.verify("log")) & {"commit_torn", "chain"}, lines[kept]


def test_9_a_commit_in_the_middle_is_gone(lake: Lake) -> None:
    lake.log(5).unlink()
    report = lake.verify("log")
    (damage,) = (f for f in report.findings if f.kind == "log_damaged")
    assert damage.where == f"_delta_log/{5:020d}.json"


def test_a_damaged_dead_letter_log_is_named(lake: Lake) -> None:
    log = max((lake.letters / "_delta_log").glob("*.json"))
    log.write_text("")
    report = lake.verify("log")
    assert "log_damaged" in differences(report)
    assert any(str(lake.letters) in f.where for f in report.findings)


def test_every_finding_is_plain_data_and_of_a_documented_kind(lake: Lake) -> None:
    foreign(lake.log(5))
    report = verify(str(lake.table), str(lake.letters), PIPELINE, "data")
    document = json.loads(json.dumps(report.to_dict()))
    assert document["ok"] is False
    assert document["partitions"][0]["topic_id"] == TOPIC_ID
    assert {f["severity"] for f in document["findings"]} == {"difference", "notice"}
