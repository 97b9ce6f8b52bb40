"""Where a kafka-delta-ingest job stands, from the txns of a table's log."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from raylake.delta.ingest_txns import read_ingest_txns
from raylake.errors import ConfigError, LogDamaged


def table(folder: Path, *commits: dict[str, int]) -> Path:
    """A table's log: one commit for each mapping of app ids."""
    log = folder / "_delta_log"
    log.mkdir()
    for version, txns in enumerate(commits):
        lines = [json.dumps({"txn": {"appId": a, "version": v}}) for a, v in txns.items()]
        (log / f"{version:020d}.json").write_text("\n".join(lines))
    return folder


@pytest.mark.spec("A13")
def test_the_offset_after_the_last_record_of_each_partition_is_next(tmp_path: Path) -> None:
    place = table(tmp_path, {"etl-0": 4, "etl-1": 0}, {"etl-0": 9}, {"etl-12": 3})
    found = read_ingest_txns(place)
    assert (found.app_id, found.ends) == ("etl", {0: 10, 1: 1, 12: 4})


def test_the_app_id_may_hold_dashes_and_numbers(tmp_path: Path) -> None:
    place = table(tmp_path, {"my-job-2-0": 4, "my-job-2-1": 5})
    assert read_ingest_txns(place, "my-job-2").ends == {0: 5, 1: 6}


def test_one_job_of_several_has_to_be_named(tmp_path: Path) -> None:
    place = table(tmp_path, {"etl-0": 4, "other-0": 7})
    with pytest.raises(ConfigError, match="2 jobs wrote this table: etl, other"):
        read_ingest_txns(place)
    assert read_ingest_txns(place, "other").ends == {0: 8}


@pytest.mark.parametrize("app_id", [None, "etl"])
def test_other_peoples_txns_are_not_taken_for_a_jobs(tmp_path: Path, app_id: str | None) -> None:
    spark = "4ff3ad3f-7c1e-4f19-b1e0-123456789012"
    ours = "raylake/p/orders/id/0/next"
    place = table(tmp_path, {spark: 4, ours: 7, "raylake/x-1": 3, "plain": 1})
    with pytest.raises(ConfigError, match="none of that form"):
        read_ingest_txns(place, app_id)


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a Delta table"):
        read_ingest_txns(tmp_path)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_log_that_lacks_a_version_tells_nothing(tmp_path: Path, gone: int) -> None:
    """The txn of another partition may have stood in it: its records would be doubled."""
    place = table(tmp_path, {"etl-0": 4}, {"etl-1": 9}, {"etl-0": 9})
    (place / "_delta_log" / f"{gone:020d}.json").unlink()
    with pytest.raises(LogDamaged, match=f"lacks version {gone}"):
        read_ingest_txns(place)


def test_a_checkpoint_that_is_not_read_stands_in_for_nothing(tmp_path: Path) -> None:
    place = table(tmp_path, {"etl-0": 4}, {"etl-1": 9}, {"etl-0": 9})
    log = place / "_delta_log"
    (log / f"{1:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet").write_bytes(b"v2")
    assert read_ingest_txns(place).ends == {0: 10, 1: 10}
    (log / f"{0:020d}.json").unlink()
    with pytest.raises(LogDamaged, match="no checkpoint that this release reads"):
        read_ingest_txns(place)


def test_what_a_checkpoint_of_the_job_holds_is_read_after_the_clean_up(tmp_path: Path) -> None:
    rows = pa.table({"id": [1]})
    for last in (4, 9, 14):
        properties = CommitProperties(app_transactions=[Transaction("etl-0", last)])
        write_deltalake(tmp_path, rows, mode="append", commit_properties=properties)
    DeltaTable(tmp_path).create_checkpoint()
    for version in range(2):
        (tmp_path / "_delta_log" / f"{version:020d}.json").unlink()
    assert read_ingest_txns(tmp_path).ends == {0: 15}
