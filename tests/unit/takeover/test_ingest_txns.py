"""Where a kafka-delta-ingest job stands, from the txns of a table's log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylake.delta.ingest_txns import read_ingest_txns
from raylake.errors import ConfigError


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
