"""Places of readers: one document at a time, of two writers one."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.storage.place import create_whole
from raylake.tables.errors import ReaderMoved
from raylake.tables.reader_places import ReaderPlace, ReaderPlaces


def test_a_file_is_written_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.json"
    assert create_whole(path, "mine")
    assert create_whole(path, "mine")
    assert not create_whole(path, "other")
    assert path.read_text() == "mine"
    assert [one.name for one in path.parent.iterdir()] == ["one.json"]


def test_the_highest_number_counts_and_the_older_ones_go(tmp_path: Path) -> None:
    places = ReaderPlaces(tmp_path / "mart")
    assert places.last() is None
    for number in range(1, 7):
        places.put(ReaderPlace("t", number * 10, number))
    found = places.last()
    assert found is not None
    assert (found.version, found.number) == (60, 6)
    assert sorted(one.name for one in (tmp_path / "mart").iterdir()) == [
        f"{number:010}.json" for number in (4, 5, 6)
    ]


def test_of_two_who_put_one_number_the_second_is_told_and_the_first_may_repeat(
    tmp_path: Path,
) -> None:
    places = ReaderPlaces(tmp_path / "mart")
    mine = ReaderPlace("t", 5, 1)
    places.put(mine)
    places.put(mine)
    with pytest.raises(ReaderMoved):
        places.put(ReaderPlace("t", 5, 1))


def test_who_puts_a_number_that_was_removed_meanwhile_is_told_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    places = ReaderPlaces(tmp_path / "mart")
    for number in range(1, 7):
        places.put(ReaderPlace("t", number, number))
    with pytest.raises(ReaderMoved):
        places.put(ReaderPlace("t", 99, 2))
    found = places.last()
    assert found is not None
    assert found.version == 6
    assert not (tmp_path / "mart" / "0000000002.json").exists()
