"""`raylake transform`: what it starts, what it tells of tables, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from raylake.cli import transform
from raylake.cli.files import load_file, places
from raylake.cli.main import main
from raylake.client.launch import TransformRequest
from raylake.client.transform_status import transform_status
from raylake.config import Pipeline
from raylake.ingest.status import write_status
from raylake.layers.derived import progress_app
from tests.unit.cli.documents import lake_of, status_document

FILE = """
pipeline: shop
lake: {lake}
kafka: {{bootstrap: "localhost:9092"}}
bronze: {{orders: {{topics: [orders]}}}}
silver:
  orders: {{from: bronze.orders, mode: upsert, keys: [id]}}
gold:
  days: {{mode: aggregate, sql: "SELECT id, count(*) AS n FROM silver.orders GROUP BY id",
         trigger: "0 2 * * *"}}
"""
ROWS = pa.table({"id": [1, 2, 3]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shop.yaml"
    made.write_text(FILE.format(lake=tmp_path / "lake"))
    return made


@pytest.fixture
def config(file: Path) -> Pipeline:
    return load_file(file).config


def fill(config: Pipeline, *, processed: int | None, versions: int = 3) -> None:
    """Bronze with so many versions of three rows; silver has processed one of them."""
    bronze = f"{config.lake}/bronze/orders"
    for _ in range(versions):
        write_deltalake(bronze, ROWS, mode="append")
    if processed is None:
        return
    step = {"raylake_operation": {"step": {}, "at_ms": 7_200_000, "watermark_ms": 5}}
    write_deltalake(
        f"{config.lake}/silver/orders",
        ROWS,
        commit_properties=CommitProperties(
            custom_metadata=step,
            app_transactions=[Transaction(progress_app(_id(bronze)), processed)],
        ),
    )
    DeltaTable(f"{config.lake}/silver/orders").alter.set_table_properties(
        {"delta.appendOnly": "false"}
    )


def _id(path: str) -> str:
    return str(DeltaTable(path).metadata().id)


def test_how_far_tables_have_come_is_read_from_their_logs(config: Pipeline) -> None:
    fill(config, processed=0)
    silver, gold = transform_status(config, 0)
    (source,) = silver.sources
    assert (source.latest, source.processed) == (2, 0)
    assert (source.behind_versions, source.behind_rows) == (2, 6)
    assert (silver.table, silver.version, silver.at_ms, silver.watermark_ms) == (
        "silver.orders",
        1,
        7_200_000,
        5,
    )
    assert silver.next == "the source's next version"
    assert (gold.version, gold.trigger, gold.at_ms) == (None, "0 2 * * *", None)
    (source,) = gold.sources
    assert (source.latest, source.processed, source.behind_rows) == (1, None, 3)


def test_a_lake_without_tables_is_told_too(config: Pipeline) -> None:
    silver, _ = transform_status(config, 0)
    (source,) = silver.sources
    assert (silver.version, source.latest, source.processed, source.behind_rows) == (
        None,
        None,
        None,
        0,
    )


def test_rewrites_are_no_rows_that_came(config: Pipeline) -> None:
    fill(config, processed=2)
    DeltaTable(f"{config.lake}/bronze/orders").optimize.compact()
    (source,) = transform_status(config, 0)[0].sources
    assert (source.behind_versions, source.behind_rows) == (1, 0)


def test_status_says_what_the_last_run_said(
    file: Path, config: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(config, processed=2)
    error = {"code": "source_gap", "message": "versions 3 to 5 are gone", "hint": ""}
    tables = {"silver.orders": {"state": "stopped", "error": error}}
    path = Path(config.lake, "_raylake", "status", "shop.transform.json")
    write_status(path, {"pipeline": "shop", "run_id": "r", "at": 1.0, "tables": tables})
    assert main(["transform", "status", str(file)]) == 0
    said = capsys.readouterr().out
    assert "silver.orders: versions 3 to 5 are gone" in said
    assert "1970-01-01T02:00:00Z" in said
    assert main(["transform", "status", str(file), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    silver, gold = document["tables"]
    assert (silver["state"], silver["error"]) == ("stopped", "versions 3 to 5 are gone")
    assert (gold["table"], gold["state"], gold["sources"][0]["processed"]) == (
        "gold.days",
        "",
        None,
    )


@pytest.mark.parametrize("kind", ["transform", "maintain"])
def test_the_status_of_transformations_and_of_upkeep_is_no_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    lake = lake_of(tmp_path, shop=status_document(pipeline="shop", state="done"))
    write_status(lake / "_raylake" / "status" / f"shop.{kind}.json", {"tables": {}})
    assert main(["list", str(lake), "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1
    named = tmp_path / "p.yaml"
    named.write_text(FILE.format(lake=lake).replace("pipeline: shop", f"pipeline: shop.{kind}"))
    assert main(["validate", str(named)]) == 2
    assert "would share files with another pipeline" in capsys.readouterr().err


def test_the_command_line_of_the_job(tmp_path: Path) -> None:
    request = TransformRequest(
        Path("a.yaml"), "r1", tmp_path, ("gold.days",), ("silver.orders",), True, ("a=b c",)
    )
    assert request.command() == [
        *(sys.executable, "-P", "-m", "jobs.transform", "--config", "a.yaml", "--run-id=r1"),
        *("--table=gold.days", "--full-refresh=silver.orders", "--continuous", "--set=a=b c"),
    ]
    plain = TransformRequest(Path("a.yaml"), "r1", tmp_path).command()
    assert plain[3:] == ["jobs.transform", "--config", "a.yaml", "--run-id=r1"]


class FakeProcess:
    """Ends at once, as it is told to."""

    code = 0
    said: dict[str, Any] | None = None
    requests: list[TransformRequest] = []  # noqa: RUF012 - cleared by each test

    def __init__(self, request: TransformRequest) -> None:
        self.request = request
        self.requests.append(request)
        self.log = request.folder / "job.log"
        tables = {"silver.orders": {"state": "up_to_date", "version": 4, "rows": 3}}
        lake = request.folder.parents[3]
        path = lake / "_raylake" / "status" / "shop.transform.json"
        write_status(path, {"run_id": request.run_id, "at": 1.0, "tables": tables})

    def wait(self, timeout_s: float) -> int | None:
        return self.code

    def error(self) -> dict[str, Any] | None:
        return self.said

    def ended_by(self) -> str:
        return "its process ended with 1"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    FakeProcess.requests.clear()
    monkeypatch.setattr(transform, "RunProcess", FakeProcess)
    return FakeProcess


def test_run_starts_the_job_and_tells_how_the_tables_stand(
    file: Path, fake: type[FakeProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--table", "silver.orders", "--full-refresh", "gold.days", "--engine", "spark"]
    assert main(["transform", "run", str(file), *more, "--set", "ingest.consumers=2"]) == 0
    (request,) = fake.requests
    assert (request.tables, request.full_refresh) == (("silver.orders",), ("gold.days",))
    assert request.overrides == ("ingest.consumers=2", "engine=spark")
    assert not request.continuous
    assert "up_to_date" in capsys.readouterr().out
    assert main(["transform", "run", str(file), "--continuous", "-o", "json"]) == 0
    assert fake.requests[1].continuous
    document = json.loads(capsys.readouterr().out)
    assert document["tables"]["silver.orders"]["version"] == 4
    assert (document["exit_code"], document["error"]) == (0, None)


def test_a_run_that_failed_says_why_and_where(
    file: Path,
    fake: type[FakeProcess],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = {"code": "source_gap", "message": "silver.orders: versions 3 to 5 are gone"}
    monkeypatch.setattr(fake, "code", 5)
    monkeypatch.setattr(fake, "said", error)
    assert main(["transform", "run", str(file), "-o", "json"]) == 5
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["at"] == [f"{file}:7:11 silver.orders"]
    monkeypatch.setattr(fake, "said", None)
    assert main(["transform", "run", str(file)]) == 5
    assert "the run failed: its process ended with 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--table", "silver.order"],
        ["run", "--table", "bronze.orders"],
        ["run", "--full-refresh", "silver.order"],
        ["preview", "silver.order"],
    ],
)
def test_a_table_that_the_file_does_not_derive_is_refused_before_anything_starts(
    file: Path, fake: type[FakeProcess], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [arguments[0], str(file), *arguments[1:]]
    assert main(["transform", *typed, "-o", "json"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert "is no silver or gold table of this file" in error["message"]
    assert "silver.orders" in error["hint"]
    assert fake.requests == []


def test_preview_shows_rows_rejected_ones_and_rules(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def previewed(config: Pipeline, table: str, rows: int) -> object:
        asked.append((config.pipeline, table, rows))
        rules = [{"rule": "not_null(id)", "failed": 1}]
        return SimpleNamespace(rows=ROWS, rejected=ROWS.slice(0, 1), results=rules)

    module = SimpleNamespace(preview=previewed)
    monkeypatch.setitem(sys.modules, "raylake.client.transforms", module)
    assert main(["transform", "preview", str(file), "silver.orders", "--rows", "50"]) == 0
    said = capsys.readouterr().out
    assert asked == [("shop", "silver.orders", 50)]
    assert "silver.orders: 3 rows" in said
    assert "rejected: 1 rows" in said
    assert "not_null(id)" in said
    assert "nothing was written" in said
    typed = ["transform", "preview", str(file), "silver.orders", "--shown", "2", "-o", "json"]
    assert main(typed) == 0
    document = json.loads(capsys.readouterr().out)
    assert (len(document["rows"]), document["counts"]) == (2, {"rows": 3, "rejected": 1})
    assert document["rules"] == [{"rule": "not_null(id)", "failed": 1}]


def test_errors_of_derived_tables_are_placed_in_the_file(file: Path) -> None:
    loaded = load_file(file)
    found = places(loaded, {"code": "definition_changed", "message": "gold.days: made by another"})
    assert found == [f"{file}:9:9 gold.days"]
