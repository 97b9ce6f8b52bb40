"""What every place of a lake does alike, on a disk and in an object store."""

from __future__ import annotations

import pickle
import uuid
from pathlib import Path
from threading import Barrier, Thread

import pyarrow as pa
import pytest

from raylake.storage.objects import StorePath
from raylake.storage.place import (
    Place,
    delete_tree,
    folders,
    make_folder,
    names,
    open_input,
    place,
    write_whole,
)


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return tmp_path / "lake"
    return place(str(request.getfixturevalue("store_lake")))


def test_what_is_written_is_read_listed_and_deleted(root: Place) -> None:
    file = root / "a" / "b=ü%20x" / "one.txt"
    make_folder(file.parent)
    write_whole(file, "first")
    write_whole(file, "zweite Fassung ü")
    assert file.read_text(encoding="utf-8") == "zweite Fassung ü"
    assert file.stat().st_size == len("zweite Fassung ü".encode())
    assert (file.exists(), (root / "a").exists(), (root / "b").exists()) == (True, True, False)
    assert file.name == "one.txt"
    assert file.stem == "one"
    assert file.parent.parent.name == "a"
    assert [f.name for f in folders(root)] == ["a"]
    file.unlink()
    assert not file.exists()
    file.unlink(missing_ok=True)


def test_names_are_those_of_files_directly_in_it(root: Place) -> None:
    make_folder(root / "log" / "below")
    for name in ("2.json", "1.json"):
        write_whole(root / "log" / name, name)
    write_whole(root / "log" / "below" / "3.json", "x")
    found = {n for n in names(root / "log") if n != "below"}
    assert found == {"1.json", "2.json"}
    delete_tree(root / "log")
    assert not (root / "log").exists()


def test_what_is_not_there_is_said_as_a_disk_says_it(root: Place) -> None:
    make_folder(root)
    for attempt in (
        lambda: (root / "none").read_bytes(),
        lambda: (root / "none").stat(),
        lambda: open_input(root / "none"),
    ):
        with pytest.raises(FileNotFoundError):
            attempt()
    assert folders(root / "none") == []


def test_an_opened_file_is_read_at_any_place(root: Place) -> None:
    make_folder(root)
    text = "0123456789" * 1000
    write_whole(root / "digits", text)
    with open_input(root / "digits") as file:
        assert isinstance(file, pa.NativeFile)
        assert file.size() == len(text)
        file.seek(9995)
        assert bytes(file.read()) == b"56789"
        file.seek(3)
        assert bytes(file.read(4)) == b"3456"


def test_a_place_is_the_same_in_another_process(root: Place) -> None:
    assert pickle.loads(pickle.dumps(root)) == root
    assert place(str(root)) == root


def test_of_many_who_create_an_object_one_does(store_lake: str) -> None:
    """What commits stand on: the store lets one of them win, whatever the size."""
    for size in (10, 300_000):
        for number in range(10):
            target = place(f"{store_lake}/race/{size}/{number}")
            assert isinstance(target, StorePath)
            barrier, winners = Barrier(6), []

            def attempt(
                target: StorePath = target,
                barrier: Barrier = barrier,
                winners: list[bytes] = winners,
                size: int = size,
            ) -> None:
                mine = uuid.uuid4().hex.encode() * (size // 32 + 1)
                barrier.wait()
                try:
                    target.create(mine)
                except FileExistsError:
                    return
                winners.append(mine)

            threads = [Thread(target=attempt) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [target.read_bytes()] == winners
