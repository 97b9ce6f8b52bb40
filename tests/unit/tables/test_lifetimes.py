"""When versions may go: what vacuum and the log's clean-up take, from the commits alone."""

from __future__ import annotations

from typing import Any

import pytest

from raylake.delta.log_reader import Commit
from raylake.tables.lifetimes import LOG_RETENTION, removals, retention_s


def commit(version: int, *, adds: str = "", removes: str = "", at_ms: int = 0) -> Commit:
    """A commit that adds and removes files of one letter each."""
    actions: list[dict[str, Any]] = [{"add": {"path": one}} for one in adds]
    actions += [{"remove": {"path": one, "deletionTimestamp": at_ms}} for one in removes]
    return Commit(version, {}, None, {}, tuple(actions))


def test_a_version_goes_with_the_first_of_its_files_that_was_removed() -> None:
    commits = [
        commit(0, adds="ab"),
        commit(1, adds="c"),
        commit(2, removes="c", adds="d", at_ms=20),
        commit(3, removes="a", at_ms=30),
        commit(4, removes="d", at_ms=40),
    ]
    assert removals(commits) == {0: 30, 1: 20, 2: 30, 3: 40}


def test_a_file_that_is_older_than_the_log_belongs_to_all_versions_that_are_left() -> None:
    assert removals([commit(7), commit(8), commit(9, removes="x", at_ms=90)]) == {7: 90, 8: 90}


def test_a_file_that_came_back_has_two_lives() -> None:
    commits = [
        commit(0, adds="a"),
        commit(1, removes="a", at_ms=10),
        commit(2, adds="a"),
        commit(3, removes="a", at_ms=30),
    ]
    assert removals(commits) == {0: 10, 2: 30}
    assert removals([]) == {}


def test_a_new_deletion_vector_is_another_file() -> None:
    vector = {"storageType": "u", "pathOrInlineDv": "x"}
    marked = Commit(
        1,
        {},
        None,
        {},
        (
            {"remove": {"path": "a", "deletionTimestamp": 10}},
            {"add": {"path": "a", "deletionVector": vector}},
        ),
    )
    later = Commit(
        2,
        {},
        None,
        {},
        ({"remove": {"path": "a", "deletionVector": vector, "deletionTimestamp": 20}},),
    )
    assert removals([commit(0, adds="a"), marked, later]) == {0: 10, 1: 20}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("interval 2 days", 172_800),
        ("interval 1 week", 604_800),
        ("INTERVAL 90 Minutes", 5400),
        ("30 seconds", 30),
        ("interval 1 month", 5),
        ("", 5),
    ],
)
def test_retentions_as_delta_writes_them(text: str, seconds: int) -> None:
    assert retention_s({LOG_RETENTION: text}, LOG_RETENTION, 5) == seconds
