"""The auditor's own replay of a Delta log: checkpoints, partitions, removals, refusals."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

import raylake.demo.auditor as auditor
from raylake.demo.auditor import AuditError, Scope, audit, replay
from raylake.demo.auditor.__main__ import main
from tests.unit.demo.small_lake import Sent, SmallLake, sent_records


@pytest.fixture
def lake(tmp_path: Path) -> SmallLake:
    return SmallLake(tmp_path).build()


def test_the_auditor_imports_nothing_of_the_product() -> None:
    folder = Path(auditor.__file__).parent
    modules = sorted(folder.glob("*.py"))
    assert len(modules) >= 3
    imported = set()
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, f"{module.name} reaches out of the auditor's folder"
                assert (folder / f"{node.module}.py").is_file()
    assert imported - set(sys.stdlib_module_names) == {"duckdb"}


def test_the_replay_agrees_with_delta_rs(lake: SmallLake) -> None:
    theirs = DeltaTable(lake.table)
    ours = replay(lake.table)
    assert ours.version == theirs.version()
    assert sorted(ours.files) == sorted(u.removeprefix("file://") for u in theirs.file_uris())


def test_the_answer_is_the_same_after_a_checkpoint_and_clean_up(lake: SmallLake) -> None:
    before = lake.audit()
    for table in (lake.table, lake.letters):
        delta = DeltaTable(table)
        delta.create_checkpoint()
        for commit in (table / "_delta_log").glob("*.json"):
            if int(commit.stem) < delta.version():
                commit.unlink()
    assert replay(lake.table).checkpoint == DeltaTable(lake.table).version()
    after = lake.audit()
    assert (after.balanced, after.rows, after.dead_letters) == (True, before.rows, 4)


def test_commits_after_a_checkpoint_count(lake: SmallLake) -> None:
    DeltaTable(lake.table).create_checkpoint()
    lake.add_rows([Sent(0, 77, b"{}")])
    lake.add_copy_of_a_file()
    report = lake.audit()
    assert (report.phantom, report.duplicated > 0) == (1, True)


def test_a_partitioned_table_is_read_by_its_log(tmp_path: Path) -> None:
    lake = SmallLake(tmp_path)
    sent = sent_records()
    lake.write_record(sent)
    lake.add_rows([s for s in sent if s.fate == "row"], partition_by=["_partition", "day"])
    lake.add_letters([s for s in sent if s.fate == "dead"])
    report = lake.audit()
    assert report.balanced
    assert report.table_files == 4


def test_files_that_no_commit_names_are_not_part_of_the_table(lake: SmallLake) -> None:
    stray = lake.live_file().with_name("stray.parquet")
    stray.write_bytes(lake.live_file().read_bytes())
    assert lake.audit().balanced


def test_files_with_and_without_a_new_column_are_read(lake: SmallLake) -> None:
    channel = Field("channel", PrimitiveType("string"), nullable=True)
    DeltaTable(lake.table).alter.add_columns(channel)
    lake.add_rows([Sent(0, 500, b"{}")])
    report = lake.audit()
    assert (report.phantom, report.rows, report.lost) == (1, 15, 0)


def damage_log(lake: SmallLake, kind: str) -> None:
    log = lake.table / "_delta_log"
    if kind == "missing commit":
        (log / f"{0:020d}.json").unlink()
    elif kind == "torn commit":
        last = log / f"{1:020d}.json"
        last.write_text(last.read_text()[:-40])
    elif kind == "empty commit":
        (log / f"{1:020d}.json").write_text("")
    elif kind == "is not there":
        lake.live_file().unlink()
    elif kind == "deletion vectors":
        lake.commit({"add": {"path": lake.live_file().name, "deletionVector": {"x": 1}}})
    elif kind == "column mapping":
        lake.commit({"metaData": {"configuration": {"delta.columnMapping.mode": "name"}}})
    elif kind == "no Delta log":
        log.rename(lake.table / "elsewhere")


@pytest.mark.parametrize(
    "kind",
    [
        "missing commit",
        "torn commit",
        "empty commit",
        "is not there",
        "deletion vectors",
        "column mapping",
        "no Delta log",
    ],
)
def test_what_cannot_be_read_is_an_error_and_never_a_balance(lake: SmallLake, kind: str) -> None:
    damage_log(lake, kind)
    expected = "commit 0 of 1 is missing" if kind == "missing commit" else kind
    with pytest.raises(AuditError, match=expected):
        lake.audit()


def test_a_table_without_values_needs_a_word(lake: SmallLake, tmp_path: Path) -> None:
    other = SmallLake(tmp_path / "other")
    other.write_record(sent_records())
    rows = [s for s in sent_records() if s.fate == "row"]
    data = {
        "_topic": ["orders"] * len(rows),
        "_partition": [s.partition for s in rows],
        "_offset": [s.offset for s in rows],
        "_tombstone": [s.value is None for s in rows],
    }
    write_deltalake(other.table, pa.table(data))
    with pytest.raises(AuditError, match="keep_value"):
        audit(other.table, lake.letters, [other.record])
    report = audit(other.table, lake.letters, [other.record], Scope(coordinates_only=True))
    assert report.balanced
    assert not report.values_compared


@pytest.mark.parametrize("why", ["absent", "partial", "twice", "unknown fate"])
def test_a_bad_record_file_is_an_error(lake: SmallLake, why: str) -> None:
    records = [lake.record]
    if why == "absent":
        lake.record.unlink()
    elif why == "partial":
        lake.record.write_bytes(lake.record.read_bytes()[:-20])
    elif why == "twice":
        records.append(lake.record)
    else:
        table = pq.read_table(lake.record)
        fates = pa.array(["kept"] * table.num_rows)
        place = table.schema.get_field_index("fate")
        pq.write_table(table.set_column(place, "fate", fates), lake.record)
    with pytest.raises(AuditError):
        audit(lake.table, lake.letters, records)


def arguments(lake: SmallLake) -> list[str]:
    tables = ["--table", str(lake.table), "--dead-letters", str(lake.letters)]
    return [*tables, "--record", str(lake.record)]


def test_exit_codes_tell_the_three_outcomes(
    lake: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(lake), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["balanced"], document["produced"], document["lost"]) == (True, 20, 0)
    assert main(arguments(lake)) == 0
    assert "the books balance" in capsys.readouterr().out
    lake.drop_a_file()
    assert main(arguments(lake)) == 3
    assert "DO NOT BALANCE" in capsys.readouterr().out
    lake.record.unlink()
    assert main(arguments(lake)) == 1
    assert "no such record file" in capsys.readouterr().err
