"""What people see: sums, lines, escapes; nothing that came from outside reaches a terminal raw."""

from __future__ import annotations

import pytest
from rich.console import Console

from raylake.cli.dlq import bytes_text
from raylake.cli.logs import text
from raylake.cli.output import printable, wants_json
from raylake.cli.status import headline, picture
from raylake.cli.views import (
    Rate,
    committed_last,
    lag,
    progress_line,
    span,
    summary,
    tables_table,
    totals,
    troubles,
)
from raylake.client.runs import RunStatus
from tests.unit.cli.documents import partition, status_document


def test_sums_and_lag() -> None:
    document = status_document()
    assert totals(document) == {
        "rows": 1500,
        "dead": 4,
        "absent": 6,
        "lost": 0,
        "dropped": 0,
        "commits": 3,
        "lag": 200,
    }
    assert summary(document) == "running: 1,500 rows, 4 dead letters, 3 commits, lag 200"
    document["tables"]["bronze.orders"]["commits"] = 1
    assert ", 1 commit, lag" in summary(document)
    assert progress_line(document, 12.3).endswith("12 rows/s, consumers 1 paused, 1 running")


def test_lag_is_never_negative_and_unknown_ends_count_nothing() -> None:
    unknown = {**partition(10, 0), "end": None}
    behind = {**partition(10, 0), "end": None, "target": 15}
    table = {"partitions": {"a": partition(10, 5), "b": unknown, "c": behind}}
    assert lag(table) == 5


def test_a_document_of_a_run_that_only_starts() -> None:
    document = status_document(tables={}, consumers={}, state="starting")
    assert progress_line(document, 0.0).startswith("starting: 0 rows")
    assert committed_last(document) == []
    sparse = status_document(tables={"bronze.orders": {"path": "/x", "topics": []}})
    assert totals(sparse)["rows"] == 0


def test_the_rate_is_that_of_the_last_documents() -> None:
    rate = Rate()
    document = status_document()
    assert rate.of(document) == 0.0
    later = status_document(at=document["at"] + 2.0)
    later["tables"]["bronze.orders"]["totals"]["rows"] += 1000
    assert rate.of(later) == 500.0
    assert rate.of(later) == 500.0


def test_what_was_committed_last_is_named_per_partition() -> None:
    assert committed_last(status_document()) == [
        "bronze.orders: version 7, last commit 2023-11-14 22:13:20Z",
        "  orders[0]: committed up to offset 1,000",
        "  orders[1]: committed up to offset 510",
    ]


def test_a_run_that_had_nothing_new_names_the_version_and_says_so() -> None:
    document = status_document()
    document["tables"]["bronze.orders"] |= {"commits": 0, "last_commit_at": None}
    assert committed_last(document)[0] == "bronze.orders: version 7, no commit in this run"
    console = Console(width=200)
    with console.capture() as captured:
        console.print(tables_table(document))
    assert "none in this run" in captured.get()


def test_what_is_held_by_hand_and_where_health_is_served_are_shown() -> None:
    held = {"broker": {"reason": "maintenance", "since": 1.0}}
    document = status_document(held=held, http="http://127.0.0.1:9464")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(picture(RunStatus(document, "alive", 1.0)))
    assert "breaker broker is held open by hand: maintenance" in captured.get()
    assert "health and metrics: http://127.0.0.1:9464" in captured.get()


def test_troubles_name_breakers_stops_restarts_and_the_error() -> None:
    document = status_document(
        stopped={"orders[0]": {"message": "offsets are gone"}},
        restarts={"consumer": 2},
        error={"message": "it broke", "hint": "mend it"},
    )
    document["tables"]["bronze.orders"]["breakers"] = {"store": {"state": "open", "reason": "full"}}
    said = [str(line) for line in troubles(document)]
    assert said == [
        "bronze.orders: breaker store is open: full",
        "orders[0] is stopped: offsets are gone",
        "replaced: 2 consumer",
        "error: it broke",
        "hint: mend it",
    ]
    assert troubles(status_document()) == []


@pytest.mark.parametrize(
    ("life", "words"),
    [
        ("alive", "orders: running (run 20250101T000000Z-abcdef, written 1 min 35 s ago)"),
        ("dead", "DEAD"),
        ("elsewhere", "silent for long"),
    ],
)
def test_the_headline_says_how_old_and_whether_dead(life: str, words: str) -> None:
    found = RunStatus(status_document(), life, 95.0)  # type: ignore[arg-type]
    assert words in headline(found)
    console = Console(width=200, record=True, file=None)
    with console.capture() as said:
        console.print(picture(found))
    assert words in said.get()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (61, "1 min 1 s"),
        (3660, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_control_characters_are_escaped_and_length_is_bounded() -> None:
    assert printable("a\x1b[31mred\r\n\x9b\u202e\ud800") == r"a\x1b[31mred\r\n\x9b\u202e\ud800"
    assert printable("x" * 300) == "x" * 200 + "…"
    assert printable("grün") == "grün"


def test_bytes_of_a_dead_letter() -> None:
    assert bytes_text(b'{"a":1}') == '{"a":1}'
    assert bytes_text(b"\xff\x00\x1b") == r"\xff\x00\x1b"
    long = bytes_text(b"y" * 1000)
    assert long == "y" * 120 + "… (1,000 bytes)"
    assert len(bytes_text(b"\x00" * 100_000)) < 200


def test_a_log_line_keeps_its_lines_and_hides_nothing() -> None:
    line = {
        "time": "2025-01-01T10:11:12.345Z",
        "level": "error",
        "process": "owner-bronze.orders",
        "message": "it\x1b[2J broke",
        "traceback": "Traceback:\n  here",
    }
    assert text(line).splitlines() == [
        r"10:11:12.345 ERROR   owner-bronze.orders: it\x1b[2J broke",
        "    Traceback:",
        "      here",
    ]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["verify", "f", "--output", "json"], True),
        (["verify", "f", "-o", "json"], True),
        (["verify", "f", "--output=json"], True),
        (["verify", "f", "--output", "text"], False),
        (["verify", "json", "--output"], False),
        ([], False),
    ],
)
def test_json_is_seen_also_before_the_command_is_parsed(arguments: list[str], wanted: bool) -> None:
    assert wants_json(arguments) is wanted
