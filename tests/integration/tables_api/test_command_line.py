"""``raylake table`` on real tables: answers, limits, exit codes and the JSON that scripts read."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import decimal
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import raylake
from raylake.cli.main import main
from raylake.client.lake_table import Table
from tests.integration.tables_api.conftest import rows, vacuum

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(lake: raylake.Lake, capsys: pytest.CaptureFixture[str]) -> Run:
    """Type a command of ``raylake table`` on the lake; exit code, stdout, stderr."""

    def typed(*words: str) -> tuple[int, str, str]:
        code = main(["table", *words, *(["--lake", lake.where] if "/" not in words[1] else [])])
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


@pytest.fixture
def evil(lake: raylake.Lake) -> Table:
    """A table with a value of each kind that is awkward somewhere."""
    table = lake.table("silver.evil")
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("n", pa.int64()),
            ("d", pa.decimal128(9, 2)),
            ("f", pa.float64()),
            ("b", pa.binary()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("s", pa.struct([("x", pa.list_(pa.int32()))])),
        ]
    )
    table.create(schema)
    values = {
        "text": ['=HYPERLINK("http://evil")'],
        "n": [-1],
        "d": [decimal.Decimal("1.50")],
        "f": [float("nan")],
        "b": [b"\xff=1"],
        "at": [NOON],
        "s": [{"x": [1]}],
    }
    table.append(pa.table(values, schema=schema))
    return table


@pytest.mark.spec("C3")
def test_the_json_of_read_is_stable(run: Run, evil: Table) -> None:
    code, out, _ = run("read", evil.name, "-o", "json")
    assert code == 0
    assert json.loads(out) == {
        "format": 1,
        "table": "silver.evil",
        "version": 1,
        "columns": [
            {"name": "text", "type": "string"},
            {"name": "n", "type": "int64"},
            {"name": "d", "type": "decimal128(9, 2)"},
            {"name": "f", "type": "double"},
            {"name": "b", "type": "binary"},
            {"name": "at", "type": "timestamp[us, tz=UTC]"},
            {"name": "s", "type": "struct<x: list<element: int32>>"},
        ],
        "rows": [
            {
                "text": '=HYPERLINK("http://evil")',
                "n": -1,
                "d": "1.50",
                "f": "nan",
                "b": base64.b64encode(b"\xff=1").decode(),
                "at": "2026-01-31T12:00:00Z",
                "s": {"x": [1]},
            }
        ],
        "more": False,
    }


@pytest.mark.spec("C3")
def test_a_spreadsheet_calculates_nothing_of_what_is_printed(run: Run, evil: Table) -> None:
    _, out, _ = run("read", evil.name, "--output", "csv")
    header, line = list(csv.reader(io.StringIO(out)))
    assert header[0] == "text"
    assert line[:3] == ['\'=HYPERLINK("http://evil")', "-1", "1.50"]
    assert not any(cell.startswith(("=", "@", "+", "\t")) for cell in line)
    code, out, _ = run("read", evil.name)
    assert (code, "HYPERLINK" in out) == (0, True)


@pytest.mark.spec("C3", "C4")
def test_reads_changes_and_history_of_a_table(run: Run, hundred: Table) -> None:
    def answer(*words: str) -> Any:
        code, out, err = run(*words, "-o", "json")
        assert code == 0, err
        return json.loads(out)

    few = answer("read", hundred.name, "--where", "id >= 148", "--columns", "amount, id")
    assert sorted(row["id"] for row in few["rows"]) == [148, 149]
    assert [one["name"] for one in few["columns"]] == ["amount", "id"]
    old = answer("read", hundred.name, "--version", "1", "--limit", "7")
    assert (len(old["rows"]), old["more"], old["version"]) == (7, True, 1)
    made = {line.version: line.at.isoformat() for line in hundred.history()}
    assert answer("read", hundred.name, "--at", made[1])["version"] == 1
    feed = answer("changes", hundred.name, "--from-version", "2", "--limit", "1000")
    assert (feed["from_version"], feed["to_version"], len(feed["rows"])) == (2, 2, 150)
    inserts = answer("changes", hundred.name, "--from-time", made[2], "--ignore-changes")
    assert {row["_change_type"] for row in inserts["rows"]} == {"insert"}
    lines = answer("history", hundred.name, "--limit", "2")["versions"]
    assert [(line["version"], line["operation"]) for line in lines] == [(2, "MERGE"), (1, "WRITE")]
    assert set(lines[0]) == {"version", "at", "operation", "engine", "parameters", "metrics"}
    what = answer("show", hundred.address)["table"]
    assert (what["table"], what["version"], what["rows"], what["files"]) == (
        "silver.orders",
        2,
        150,
        2,  # updated rows, and new ones
    )
    assert what["columns"] == {"id": "int64", "region": "string", "amount": "int32"}
    kept = answer("show", hundred.name, "--versions")["versions"]
    assert [line["version"] for line in kept] == [2, 1, 0]
    assert kept[0]["readable_until"] is None
    assert kept[1]["taken_by"] == "vacuum"
    for words in (("show", hundred.name), ("history", hundred.name), ("show", "--versions")):
        typed = words if hundred.name in words else ("show", hundred.name, "--versions")
        for form in ("table", "csv"):
            code, out, _ = run(*typed, "-o", form)
            assert (code, bool(out)) == (0, True)


@pytest.mark.spec("C4")
def test_a_restore_and_what_it_would_do(run: Run, hundred: Table) -> None:
    code, out, _ = run("restore", hundred.name, "--version", "1", "--dry-run", "-o", "json")
    assert code == 0
    assert json.loads(out)["plan"] == {
        "table": "silver.orders",
        "version": 2,
        "restored_version": 1,
        "files_added": 1,
        "files_removed": 2,
        "note": "",
        "dry_run": True,
    }
    assert hundred.version == 2
    code, out, _ = run("restore", hundred.name, "--version", "1", "-o", "json")
    assert code == 0
    result = json.loads(out)["result"]
    assert (result["operation"], result["version_before"], result["version_after"]) == (
        "restore",
        2,
        3,
    )
    assert hundred.read().to_arrow().num_rows == 100
    vacuum(hundred)
    code, _, err = run("restore", hundred.name, "--version", "2", "-o", "json")
    refused = json.loads(err)["error"]
    assert (code, refused["code"], refused["table_changed"]) == (5, "version_gone", False)


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("read", "silver.order"), 5, "table_missing"),
        (("read", "orders"), 2, "configuration"),
        (
            ("read", "silver.orders", "--version", "1", "--at", "2026-01-01T00:00:00Z"),
            2,
            "version_and_time",
        ),
        (("read", "silver.orders", "--at", "2026-01-01"), 2, "time_without_zone"),
        (("read", "silver.orders", "--version", "99"), 2, "version_unknown"),
        (("read", "silver.orders", "--columns", "idd"), 2, "unknown_column"),
        (("read", "silver.orders", "--where", "id ="), 2, "table_expression"),
        (("read", "silver.orders", "--limit", "0"), 2, "configuration"),
        (("changes", "silver.orders"), 2, "table_request"),
        (("restore", "silver.orders"), 2, "configuration"),
        (("show", "/no/such/table"), 5, "table_missing"),
        (("show", "ftp://x/y"), 2, "configuration"),
    ],
)
def test_what_is_wrong_has_its_exit_code_and_a_hint(
    run: Run, hundred: Table, words: tuple[str, ...], code: int, error: str
) -> None:
    ended, out, err = run(*words, "-o", "json")
    assert (ended, out) == (code, "")
    said = json.loads(err)["error"]
    assert (said["code"], said["exit_code"]) == (error, code)
    assert said["message"]


def test_a_pipeline_file_says_where_its_tables_are(
    capsys: pytest.CaptureFixture[str], hundred: Table, lake: raylake.Lake, tmp_path: Path
) -> None:
    file = tmp_path / "orders.yaml"
    file.write_text(
        f"pipeline: orders\nlake: {lake.where}\nkafka: {{bootstrap: 'localhost:9'}}\n"
        "bronze: {orders: {topics: [orders]}}\n"
    )
    assert main(["table", "read", "silver.orders", "--file", str(file), "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 20
    both = ["table", "read", "silver.orders", "--file", str(file), "--lake", lake.where]
    assert main([*both, "-o", "json"]) == 2
    assert main(["table", "read", "silver.orders", "-o", "json"]) == 2
    assert "in which lake?" in capsys.readouterr().err


def test_no_rows_is_an_answer(run: Run, hundred: Table) -> None:
    hundred.append(rows(range(0)))
    code, out, _ = run("read", hundred.name, "--where", "id < 0")
    assert (code, "no rows" in out) == (0, True)
