from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from raylake.delta.verify import TableToVerify, VerifyOptions, verify, verify_pipeline
from raylake.errors import ConfigError
from tests.integration.verify.lake import (
    PIPELINE,
    TABLE,
    TOPIC_ID,
    Lake,
    Span,
    add,
    added_files,
    under_another_name,
)

pytestmark = pytest.mark.spec("A3")


@pytest.mark.parametrize("level", ["log", "data"])
def test_ok_before_and_after_checkpoint_clean_up_and_vacuum(lake: Lake, level: str) -> None:
    before = lake.verify(level)
    assert before.ok, before.findings
    assert before.findings == ()
    assert [(p.origin, p.next, p.counts.rows) for p in before.partitions] == [
        (0, 500, 485),
        (500, 700, 195),
    ]
    assert all(p.balanced for p in before.partitions)
    assert before.live_rows == before.totals.rows == 680
    assert before.dead_letters is not None
    assert (before.dead_letters.stored, before.dead_letters.expected) == (15, 15)

    lake.maintain()
    after = lake.verify(level)
    assert after.ok, after.findings
    assert (after.partitions, after.live_rows) == (before.partitions, before.live_rows)
    assert after.dead_letters is not None
    assert after.dead_letters.stored == 15
    assert after.relied_on["checkpoint"] == before.relied_on["version"]
    assert not any(lake.log(v).exists() for v in range(before.relied_on["version"]))
    if level == "data":
        assert after.relied_on["data"] == before.relied_on["data"]


def test_ok_where_partition_values_need_escaping(tmp_path: Path) -> None:
    lake = Lake(tmp_path, partition_by=("country", "_topic"))
    lake.admit(Span(0, 0, 0))
    lake.ingest(Span(0, 0, 40, frozenset({3})))
    report = lake.verify("data")
    assert report.ok, report.findings
    assert report.live_files == 4
    assert report.relied_on["data"]["rows_read"] == 39


def test_ok_after_compaction_that_changes_no_data(lake: Lake) -> None:
    before = lake.verify("data")
    DeltaTable(lake.table).optimize.compact()
    DeltaTable(lake.letters).optimize.compact()
    after = lake.verify("data")
    assert after.ok, after.findings
    assert (before.live_files, after.live_files) == (5, 1)
    assert {f.kind for f in after.findings} == {"foreign_commit"}
    assert after.partitions == before.partitions
    assert after.dead_letters.stored == before.dead_letters.stored


def test_ok_over_several_owners_and_an_idle_advance(lake: Lake) -> None:
    lake.owner.release()
    lake.owner = lake.attach()
    lake.ingest(Span(0, 500, 520, absent=frozenset(range(500, 520))))
    lake.owner = lake.attach()
    lake.ingest(Span(0, 520, 521))
    report = lake.verify("data")
    assert report.findings == ()
    assert report.relied_on["commits_foreign"] == 0


def test_dead_letters_that_wait_for_their_redo_are_pending_and_not_lost(lake: Lake) -> None:
    lake.ingest(Span(0, 500, 510, frozenset({501, 502})), settle=False)
    lake.ingest(Span(1, 700, 710, frozenset({709})), settle=False)
    report = lake.verify("data")
    assert report.ok, report.findings
    assert [f.kind for f in report.findings] == ["dead_letters_pending"]
    assert (report.dead_letters.stored, report.dead_letters.pending) == (15, 3)

    lake.settle()
    settled = lake.verify("data")
    assert settled.findings == ()
    assert (settled.dead_letters.stored, settled.dead_letters.pending) == (18, 0)


def test_a_pending_file_that_is_gone_is_a_difference(lake: Lake) -> None:
    lake.ingest(Span(0, 500, 510, frozenset({501})), settle=False)
    (named,) = lake.owner.pending_dead_letters(lake.owner.version - 1).commits
    (lake.letters / named.files[0].path).unlink()
    report = lake.verify("log")
    assert [f.kind for f in report.findings if f.is_difference] == ["dead_letter_file"]


def test_a_topic_that_was_created_again_starts_at_0_anew_and_balances(lake: Lake) -> None:
    again = Span(0, 0, 50, frozenset({1}), topic_id="another")
    lake.admit(again)
    lake.ingest(again)
    report = lake.verify("data")
    assert report.ok, report.findings
    assert [(p.source.topic_id, p.next) for p in report.partitions if not p.source.partition] == [
        (TOPIC_ID, 500),
        ("another", 50),
    ]


def test_little_memory_costs_passes_and_gives_the_same_answer(lake: Lake) -> None:
    tables = [TableToVerify(str(lake.table))]
    options = VerifyOptions("data", memory_bytes=1)
    report = verify_pipeline(tables, str(lake.letters), PIPELINE, options)
    assert report.ok, report.all_findings()
    assert report.tables[0].relied_on["data"]["passes"] == 2
    DeltaTable(lake.table).delete("_offset = 600")
    assert not verify_pipeline(tables, str(lake.letters), PIPELINE, options).ok


def test_a_pipeline_of_two_tables_sums_up(tmp_path: Path) -> None:
    lakes = [Lake(tmp_path), Lake(tmp_path, name="bronze.audit")]
    for number, lake in enumerate(lakes):
        lake.admit(Span(0, 0, 0))
        lake.ingest(Span(0, 0, 100, frozenset({5, 6 + number})))
    tables = [TableToVerify(str(one.table), one.name) for one in lakes]
    letters = str(lakes[0].letters)
    for level in ("log", "data"):
        report = verify_pipeline(tables, letters, PIPELINE, VerifyOptions(level))
        assert report.ok, report.all_findings()
        assert (report.totals.rows, report.totals.dead) == (196, 4)
        assert (report.dead_letters.stored, report.dead_letters.expected) == (4, 4)

    alone = verify(str(lakes[0].table), letters, PIPELINE, "data", table_name=TABLE)
    assert alone.ok, alone.findings
    assert alone.dead_letters.expected is None

    log = max((lakes[0].letters / "_delta_log").glob("*.json"))
    (file,) = added_files(log)
    add(lakes[0].letters, [under_another_name(lakes[0].letters, file)], {})
    doubled = verify_pipeline(tables, letters, PIPELINE, VerifyOptions("data"))
    assert [t.ok for t in doubled.tables] == [True, False]
    assert "dead_letters" in {f.kind for f in doubled.findings}


def test_a_damaged_checkpoint_is_named_and_the_commits_serve(lake: Lake) -> None:
    DeltaTable(lake.table).create_checkpoint()
    (checkpoint,) = (lake.table / "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    report = lake.verify("log")
    (finding,) = report.findings
    assert (finding.kind, finding.is_difference) == ("log_tolerated", True)
    assert report.live_rows == report.totals.rows == 680


def test_level_broker_without_a_cluster_and_unknown_levels_are_refused(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="no cluster"):
        lake.verify("broker")
    with pytest.raises(ConfigError, match="no level"):
        lake.verify("deep")
