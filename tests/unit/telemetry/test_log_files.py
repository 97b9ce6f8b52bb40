"""Log files are bounded, and a run's logs are read whole through their rotation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from raylake.client.run_logs import LogFilter, LogTail
from raylake.telemetry import logs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = logging.getLogger("raylake")
    before = (list(root.handlers), root.level, root.propagate)
    root.handlers = []
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 1000)
    logs.log_to_file(tmp_path, "run-1", "owner")
    yield tmp_path / "run-1"
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level, root.propagate = before


def say(first: int, last: int) -> None:
    for number in range(first, last):
        logging.getLogger("raylake.test").info("%s", number)


def test_a_full_log_file_is_followed_under_its_new_name(folder: Path) -> None:
    tail = LogTail(folder, LogFilter())
    seen = []
    for first in range(0, 40, 4):
        say(first, first + 4)
        seen += [int(line["message"]) for line in tail.new_lines()]
    assert sorted(seen) == list(range(40))


def test_the_log_files_of_a_process_are_bounded(folder: Path) -> None:
    say(0, 200)
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == [
        "owner.jsonl",
        *(f"owner.jsonl.{n}" for n in (1, 2, 3)),
    ]
    assert all(path.stat().st_size <= 1000 for path in files)
    kept = [int(line["message"]) for line in LogTail(folder, LogFilter()).last(500)]
    assert kept == list(range(200 - len(kept), 200))
