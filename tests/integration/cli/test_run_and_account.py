"""One run to the end of a topic, and everything that is asked about it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.broker import LiveBroker
from tests.harness.cluster import LiveCluster
from tests.integration.cli.conftest import GOOD, POISON, Done, Shell, pipeline_text


@pytest.fixture(scope="module")
def used(
    broker: LiveBroker,
    topic: str,
    ray_cluster: LiveCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Shell, Done]]:
    """A shell in which one run has ended, and what it printed."""
    shell = Shell(tmp_path_factory.mktemp("cli"), ray_cluster)
    text = pipeline_text(broker, topic)
    shell.write("clicks.yaml", text + "dead_letters: {stop_above: 90%}\n")
    yield shell, shell("run", "clicks.yaml", "--available-now", "-o", "json")
    shell.close()


@pytest.mark.spec("K1", "A7")
def test_run_ends_with_0_and_a_stable_document(used: tuple[Shell, Done]) -> None:
    shell, done = used
    assert done.code == 0, done.err
    assert done.err == ""
    said = done.json
    assert set(said) == {
        *("format", "pipeline", "run_id", "exit_code", "state", "tables", "logs", "error"),
    }
    assert (said["exit_code"], said["state"], said["error"]) == (0, "done", None)
    assert said["tables"]["bronze.clicks"]["totals"]["rows"] == GOOD
    assert Path(said["logs"]).is_relative_to(shell.folder)
    assert (Path(said["logs"]) / "job.log").exists()


@pytest.mark.spec("K1")
@pytest.mark.parametrize("level", ["log", "data", "broker", "all"])
def test_verify_balances_at_every_level(used: tuple[Shell, Done], level: str) -> None:
    shell, _ = used
    done = shell.here("verify", "clicks.yaml", "--level", level, "-o", "json")
    assert done.code == 0, done.out + done.err
    said = done.json
    assert said["ok"] is True
    assert said["level"] == level
    assert said["totals"] == {
        "rows": GOOD,
        "dead": POISON,
        "absent": 0,
        "lost": 0,
        "dropped": 0,
    }
    assert [one["partition"] for one in said["tables"][0]["partitions"]] == [0, 1]


def test_verify_prints_an_account_per_partition(used: tuple[Shell, Done], topic: str) -> None:
    shell, _ = used
    done = shell.here("verify", "clicks.yaml")
    assert done.code == 0
    assert f"{topic}[0]" in done.out
    assert f"{topic}[1]" in done.out
    assert "ok: every offset is accounted for" in done.out


@pytest.mark.spec("A11")
def test_status_says_how_the_run_ended(used: tuple[Shell, Done]) -> None:
    shell, run = used
    done = shell.here("status", "clicks.yaml", "-o", "json")
    assert done.code == 0
    assert (done.json["life"], done.json["status"]["state"]) == ("ended", "done")
    assert done.json["status"]["run_id"] == run.json["run_id"]
    text = shell.here("status", "clicks.yaml").out
    assert "clicks: done" in text
    assert "ago" in text


@pytest.mark.spec("B3")
def test_dead_letters_are_counted_and_shown_without_their_control_characters(
    used: tuple[Shell, Done], topic: str
) -> None:
    shell, _ = used
    counted = shell.here("dlq", "stats", "clicks.yaml", "-o", "json").json
    assert counted["total"] == POISON
    assert [(one["table"], one["stage"], one["count"]) for one in counted["kinds"]] == [
        ("bronze.clicks", "decode", POISON)
    ]
    shown = shell.here("dlq", "show", "clicks.yaml", "--limit", "3", "-o", "json").json[
        "dead_letters"
    ]
    assert len(shown) == 3
    assert {one["topic"] for one in shown} == {topic}
    assert all(one["value"] == r'{"id": \x1b[31m nope' for one in shown)
    assert "\x1b" not in shell.here("dlq", "show", "clicks.yaml").out
    none = shell.here(
        "dlq", "show", "clicks.yaml", "--where-reason", "no such reason", "-o", "json"
    )
    assert none.json["dead_letters"] == []


def test_logs_name_the_processes_of_the_run(used: tuple[Shell, Done]) -> None:
    shell, _ = used
    done = shell.here("logs", "clicks.yaml", "--level", "debug")
    assert done.code == 0
    assert "supervisor: " in done.out


@pytest.mark.spec("K1")
def test_preview_writes_nothing_and_shows_rows_and_dead_letters(
    used: tuple[Shell, Done], tmp_path: Path
) -> None:
    shell, _ = used
    before = sorted(shell.folder.rglob("*"))
    done = shell.here("preview", "clicks.yaml", "--records", "5000", "-o", "json")
    assert done.code == 0, done.err
    assert sorted(shell.folder.rglob("*")) == before
    (table,) = done.json["tables"]
    assert (table["records"], table["rows"], table["dead"]) == (GOOD + POISON, GOOD, POISON)
    assert table["schema_from"] == "table"
    assert {"id", "_offset"} <= set(table["shown"][0])
    fresh = shell.here("preview", "clicks.yaml", "--set", f"lake={tmp_path / 'none'}")
    assert "schema (inferred): id: long, at: string" in fresh.out
    assert "dead letter" in fresh.out
    assert not (tmp_path / "none").exists()


@pytest.mark.spec("K1")
def test_init_prints_a_file_with_the_real_columns_that_loads_again(
    used: tuple[Shell, Done], broker: LiveBroker, topic: str
) -> None:
    shell, _ = used
    done = shell.here("init", "--bootstrap", broker.bootstrap, "--topic", topic)
    assert done.code == 0, done.err
    assert "id: long" in done.out
    assert "at: timestamp" in done.out
    shell.write("drafted.yaml", done.out)
    assert shell.here("validate", "drafted.yaml").code == 0
    unknown = shell.here("init", "--bootstrap", broker.bootstrap, "--topic", f"{topic}x")
    assert unknown.code == 2
    assert topic in unknown.err


@pytest.mark.spec("K1")
def test_doctor_looks_at_what_the_pipeline_needs(used: tuple[Shell, Done]) -> None:
    shell, _ = used
    done = shell.here("doctor", "clicks.yaml", "-o", "json")
    assert done.code == 0, done.out
    checks = {one["name"]: one["state"] for one in done.json["checks"]}
    assert {"python", "java", "lake", "disk", "clock", "broker", "topics of bronze.clicks"} <= set(
        checks
    )
    assert done.json["ok"] is True
    missing = shell.here("doctor", "clicks.yaml", "--set", "bronze.clicks.topics.0=nope")
    assert missing.code == 2
    assert "nope" in missing.out
    unreachable = shell.here("doctor", "clicks.yaml", "--set", "kafka.bootstrap=127.0.0.1:1")
    assert unreachable.code == 4


@pytest.mark.spec("K1")
def test_verify_exits_with_3_when_a_file_of_the_table_is_gone(used: tuple[Shell, Done]) -> None:
    shell, _ = used
    file = next((shell.folder / "lake" / "bronze" / "clicks").glob("*.parquet"))
    hidden = file.with_suffix(".hidden")
    file.rename(hidden)
    try:
        done = shell.here("verify", "clicks.yaml", "--level", "data", "-o", "json")
    finally:
        hidden.rename(file)
    assert done.code == 3
    assert done.json["ok"] is False
    assert "file" in {one["kind"] for one in done.json["tables"][0]["findings"]}
