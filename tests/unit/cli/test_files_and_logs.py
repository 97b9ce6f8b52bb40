"""validate, explain, drafts and logs: text in, text out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raylake.cli import dlq
from raylake.cli.files import load_file, places
from raylake.cli.main import main
from raylake.client.drafts import Sampled, render, table_names
from raylake.client.overrides import overrides_of
from raylake.client.run_logs import LogFilter, LogTail, run_folder
from raylake.config import load_bytes
from raylake.errors import ConfigError

GOOD = """\
pipeline: orders
lake: ./lake
kafka:
  bootstrap: localhost:9092
bronze:
  orders:
    topics: [orders.eu, orders.us]
silver: {orders: {from: bronze.orders, mode: upsert, keys: [a], sequence_by: b}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.spec("K1")
def test_validate_names_every_problem_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("pipelin: orders\nlake: ./lake\nkafka: {bootstrap: nope}\nbronze: {}\n")
    assert main(["validate", str(bad)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for place in (":1:1", ":3:20"):
        assert f"{bad}{place}" in said.err
    assert "hint:" in said.err
    assert main(["validate", str(bad), "-o", "json"]) == 2
    problems = json.loads(capsys.readouterr().err)["error"]["context"]["problems"]
    assert len(problems) >= 3
    assert set(problems[0]) == {"file", "line", "column", "loc", "message", "hint", "snippet"}


@pytest.mark.spec("K1")
def test_explain_gives_every_value_its_origin(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explain", str(file), "--set", "bronze.orders.commit_interval=9s"]
    assert main([*arguments, "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"format", "values", "runs", "graph", "guarantee", "not_yet", "sha256"}
    origins = {one["key"]: one["origin"] for one in said["values"]}
    assert origins["kafka.bootstrap"] == f"{file}:4:14"
    assert origins["bronze.orders.commit_interval"].startswith("flag")
    assert origins["ingest.drain_timeout"] == "default"
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "exactly once" in text
    assert "bronze.orders: orders.eu, orders.us, json, into /" in text
    assert "failures of store: tried 10 times in a row, 200ms doubling to 30s apart" in text
    assert main([*arguments, "--set", "retry.store.strategy=none"]) == 0
    assert "failures of store: not tried again" in capsys.readouterr().out


def test_a_flag_without_a_value_is_refused() -> None:
    assert overrides_of(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(ConfigError, match="no value"):
        overrides_of(["a"])


def test_a_secret_is_refused_as_an_argument_and_not_repeated() -> None:
    for key in ("kafka.security.password", "kafka.security.key_password", "a.Secret", "x.token[0]"):
        with pytest.raises(ConfigError, match="secret") as told:
            overrides_of([f"{key}=hunter2"])
        assert key in told.value.message
        assert "hunter2" not in str(told.value)
    with pytest.raises(ConfigError, match="kafka") as told:
        overrides_of(['kafka.security={"password": "hunter2"}'])
    assert "hunter2" not in str(told.value)
    kept = ["kafka.security.password=env:PASSWORD", "bronze.tokens.commit_interval=9s"]
    kept.append('bronze.a.schema={"token": "string"}')
    assert len(overrides_of(kept)) == 3


def test_errors_are_placed_in_the_file(file: Path) -> None:
    loaded = load_file(file)
    broker = {"code": "unreachable", "message": "no broker at localhost:9092"}
    assert places(loaded, broker) == [f"{file}:4:14 kafka.bootstrap"]
    assert places(loaded, {"code": "unreachable", "message": "no Ray at 10.0.0.1"}) == []
    topic = {"code": "unknown_topic", "message": "unknown topic: 'orders.us'"}
    assert places(loaded, topic) == [f"{file}:7:25 bronze.orders.topics[1]"]
    given = load_file(file, ['bronze.orders.start={"offsets": {"orders.us": {"0": 5}}}'])
    gone = {"code": "offsets_lost", "message": "orders.us[0]: cannot start at offset 5, the log …"}
    assert places(given, gone) == ["flag bronze.orders.start.offsets.orders.us.0"]
    assert places(loaded, gone) == []
    by_flag = load_file(file, ["kafka.bootstrap=other:1"])
    (place,) = places(by_flag, {"code": "unreachable", "message": "at other:1"})
    assert place.startswith("flag")


AWKWARD = ("NO", "on", "1", "1e3", "a_b", 'q"uote', "colon:x", "#hash", "ünï", "&a", "-", "~")


def test_a_draft_loads_again_whatever_the_names() -> None:
    columns = dict.fromkeys(AWKWARD, "string")
    nested = {"deep": "struct<a: long, b: array<string>>", "at": "string"}
    samples = [
        Sampled("orders.eu", 10, {**columns, **nested}, ("at",)),
        Sampled("orders_eu", 10, {}),
        Sampled("NO", 0, {}),
    ]
    text = render("first", "[::1]:9092,b:1", samples)
    config = load_bytes(text.encode(), path="first.yaml", environ={}).config
    first, second, third = config.bronze.values()
    assert [t.topics for t in config.bronze.values()] == [("orders.eu",), ("orders_eu",), ("NO",)]
    assert first.schema_ == {**columns, **nested, "at": "timestamp"}
    assert (second.format, third.format) == ("raw", "json")
    assert text.count("#") > 5


def test_table_names_are_unique_and_allowed() -> None:
    names = table_names(["a.b", "a_b", "a-b", "x" * 249])
    assert len(set(names.values())) == 4
    assert names["a.b"] == "a_b"
    assert all(len(name) <= 128 for name in names.values())


def _line(at: str, process: str, level: str = "info") -> str:
    return json.dumps({"time": at, "level": level, "process": process, "message": at}) + "\n"


def test_logs_of_all_processes_come_in_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "owner.jsonl").write_text(_line("1", "owner") + _line("4", "owner"))
    (tmp_path / "consumer-0.jsonl").write_text(_line("2", "consumer-0") + _line("3", "consumer-0"))
    tail = LogTail(tmp_path, LogFilter())
    assert [line["time"] for line in tail.new_lines()] == ["1", "2", "3", "4"]
    assert list(tail.new_lines()) == []


def test_a_half_written_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "owner.jsonl"
    whole = _line("1", "owner")
    path.write_text(whole + whole[:10])
    tail = LogTail(tmp_path, LogFilter())
    assert len(list(tail.new_lines())) == 1
    path.write_text(whole + whole + "not json\n")
    later = list(tail.new_lines())
    assert [line["message"] for line in later] == ["1", "not json"]


def test_logs_are_filtered_by_level_and_process(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        _line("1", "owner", "debug") + _line("2", "owner", "error") + _line("3", "owner", "strange")
    )
    (tmp_path / "b.jsonl").write_text(_line("4", "consumer-0", "error"))
    found = LogTail(tmp_path, LogFilter("warning", "own")).last(10)
    assert [line["time"] for line in found] == ["2", "3"]
    assert [one["time"] for one in LogTail(tmp_path, LogFilter()).last(1)] == ["4"]


def test_the_newest_run_is_shown_unless_one_is_named(tmp_path: Path) -> None:
    for run in ("20250101T000000Z-a", "20250201T000000Z-b"):
        (tmp_path / run).mkdir()
    assert run_folder(tmp_path, None).name == "20250201T000000Z-b"
    assert run_folder(tmp_path, "20250101T000000Z-a").name == "20250101T000000Z-a"
    with pytest.raises(ConfigError, match="run x") as told:
        run_folder(tmp_path, "x")
    assert "20250201T000000Z-b" in told.value.hint
    with pytest.raises(ConfigError, match="any run"):
        run_folder(tmp_path / "none", None)


def test_an_offset_at_which_a_table_cannot_start_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    start = "start: {offsets: {a.b: {0: 5, 1: 9999}}}"
    path.write_text(GOOD.replace("[orders.eu, orders.us]", f"[a.b]\n    {start}"))
    message = "a.b[1]: cannot start at offset 9999, the log holds [0, 10): …"
    (place,) = places(load_file(path), {"code": "offsets_lost", "message": message})
    assert place == f"{path}:8:38 bronze.orders.start.offsets.a.b.1"


@pytest.mark.parametrize("command", ["show", "stats"])
def test_dead_letters_of_a_lake_that_is_not_there_are_an_error(
    command: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    assert main(["dlq", command, str(file)]) == 2
    assert "has no table in" in capsys.readouterr().err


def test_a_lost_range_has_no_value_to_show(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    letter: dict[str, Any] = dict.fromkeys(
        ("key", "value", "timestamp", "failed_at", "reason", "error_class", "table"), None
    )
    letter |= {"topic": "a", "partition": 0, "offset": 3}
    letters = [{**letter, "stage": "lost"}, {**letter, "stage": "late"}]
    monkeypatch.setattr(dlq, "newest", lambda *_: letters)
    monkeypatch.setattr(dlq, "is_table", lambda _: True)
    assert main(["dlq", "show", str(file)]) == 0
    said = capsys.readouterr().out
    assert "lost/None" in said
    assert said.count("value:") == 1
    assert "value: null" in said
