"""Whose the status document is when two runs write it: the one with the newer epoch (I11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raylake.errors import Fenced
from raylake.ingest.own_status import OwnStatus
from raylake.ingest.status import read_status, write_status


def of_run(run_id: str, epoch: int | None, table_id: str = "t1", at: float = 0.0) -> dict[str, Any]:
    table: dict[str, Any] = {"table_id": table_id}
    if epoch is not None:
        table["epoch"] = epoch
    job = {"pid": 7, "host": "h"}
    return {"run_id": run_id, "at": at, "job": job, "tables": {"bronze.a": table}}


def test_an_idle_run_that_was_taken_over_leaves_the_document_alone(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    old, new = OwnStatus(path), OwnStatus(path)
    old.write(of_run("old", 1))
    # Clocks tell nothing: the newer run's is behind.
    new.write(of_run("new", 2, at=-1000.0))
    with pytest.raises(Fenced, match=r"bronze.a: run new \(pid 7 on h\) took the table over"):
        old.write(of_run("old", 1))
    assert read_status(path)["run_id"] == "new"


def test_the_newer_run_goes_on_over_what_the_old_one_wrote_last(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    new = OwnStatus(path)
    new.write(of_run("new", None))
    write_status(path, of_run("old", 1))
    new.write(of_run("new", None))
    write_status(path, of_run("old", 1))
    new.write(of_run("new", 2))
    assert read_status(path)["run_id"] == "new"


def test_a_run_that_starts_and_has_no_table_yet_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    first = OwnStatus(path)
    first.write(of_run("first", 1))
    OwnStatus(path).write({"run_id": "refused", "state": "starting", "tables": {}})
    first.write(of_run("first", 1))
    assert read_status(path)["run_id"] == "first"


def test_a_document_left_by_an_earlier_run_stops_nobody(tmp_path: Path) -> None:
    """A table that was made again, or restored, counts its epochs anew."""
    path = tmp_path / "status.json"
    write_status(path, of_run("earlier", 9))
    run = OwnStatus(path)
    run.write(of_run("run", 1))
    write_status(path, of_run("other", 9, table_id="t2"))
    run.write(of_run("run", 1))
    path.unlink()
    run.write(of_run("run", 1))
    path.write_text(json.dumps([1]))
    run.write(of_run("run", 1))
    # A supervisor that replaces one of its own run.
    write_status(path, of_run("run", 3))
    run.write(of_run("run", 1))
    assert read_status(path)["run_id"] == "run"
