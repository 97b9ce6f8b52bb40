"""Who takes a folder over or a table back deletes nothing that is, or may become, another's."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylake.delta import log_files
from raylake.errors import DependencyUnreachable, LogDamaged
from raylake.tables import clone, errors, filling, migrate
from raylake.tables.convert import roll_back_conversion
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.filling import MARK, Work
from raylake.tables.migrate import Migrate
from raylake.tables.requests import Append, Create, Read
from raylake.tables.upkeep_requests import Clone, Convert

pytestmark = pytest.mark.spec("C4")

ENGINE = DeltaRsEngine()
SCHEMA = pa.schema([("id", pa.int64())])


def rows(start: int) -> pa.Table:
    return pa.table({"id": list(range(start, start + 10))}, schema=SCHEMA)


def table(address: Path, start: int) -> str:
    ENGINE.execute(str(address), Create(SCHEMA))
    ENGINE.execute(str(address), Append(rows(start)))
    return str(address)


def folder(path: Path, start: int) -> str:
    path.mkdir(parents=True)
    pq.write_table(rows(start), path / "a.parquet")
    return str(path)


def ids(address: Path | str) -> list[int]:
    found = ENGINE.read(str(address), Read(columns=("id",))).read_all()
    return sorted(found.column("id").to_pylist())


def files(path: Path) -> set[str]:
    return {str(one.relative_to(path)) for one in path.rglob("*") if one.is_file()}


def at_call(number: int, of: Callable[..., Any], does: Callable[[], Any]) -> Callable[..., Any]:
    """A function that does something else besides, after its n-th call."""
    calls = []

    def wrapped(*arguments: Any) -> Any:
        found = of(*arguments)
        calls.append(arguments)
        if len(calls) == number:
            does()
        return found

    return wrapped


def fails_with(error: OSError) -> Callable[..., Any]:
    def fails(*_: Any) -> None:
        raise error

    return fails


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A target in which a migration waits to be switched and somebody else made a table."""
    moved = [Migrate(folder(tmp_path / "source", 0), str(tmp_path / "target"))]
    migrate.migrate(moved, str(tmp_path / "journal"), switch=False)
    table(tmp_path / "target", 100)
    return tmp_path / "target"


def test_a_roll_back_does_not_take_a_table_whose_first_commit_cannot_be_read(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(strangers)
    with monkeypatch.context() as patched:
        patched.setattr(log_files, "read_commit", fails_with(OSError("503 slow down")))
        for order in (migrate.roll_back, lambda journal: migrate.migrate([], journal)):
            with pytest.raises(DependencyUnreachable, match="slow down"):
                order(str(tmp_path / "journal"))
    assert files(strangers) == before
    assert ids(strangers) == list(range(100, 110))


def test_a_roll_back_does_not_take_a_table_whose_first_commit_is_torn(
    strangers: Path, tmp_path: Path
) -> None:
    log_files.commit_path(strangers, 1).unlink()
    log_files.commit_path(strangers, 0).write_text('{"commitInfo": {"oper')
    before = files(strangers)
    with pytest.raises(LogDamaged):
        migrate.roll_back(str(tmp_path / "journal"))
    assert files(strangers) == before


def test_what_is_written_while_a_migration_is_rolled_back_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, journal = str(tmp_path / "target"), str(tmp_path / "journal")
    migrate.migrate([Migrate(folder(tmp_path / "source", 0), target)], journal)
    real = log_files.read_commit

    def write() -> None:
        monkeypatch.setattr(log_files, "read_commit", real)
        ENGINE.execute(target, Append(rows(10)))

    # Two looks beforehand, and the one right before it is taken away.
    monkeypatch.setattr(log_files, "read_commit", at_call(3, real, write))
    with pytest.raises(errors.WriteConflict, match="written to since"):
        migrate.roll_back(journal)
    assert ids(target) == list(range(20))


def test_what_is_written_while_a_conversion_is_rolled_back_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    folder(target, 0)
    ENGINE.execute(str(target), Convert())
    real = log_files.read_commit

    def write() -> None:
        monkeypatch.setattr(log_files, "read_commit", real)
        ENGINE.execute(str(target), Append(rows(10)))

    monkeypatch.setattr(log_files, "read_commit", at_call(1, real, write))
    with pytest.raises(errors.WriteConflict):
        roll_back_conversion(target)
    assert ids(target) == list(range(20))


def test_a_table_made_after_its_work_was_taken_over_has_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = table(tmp_path / "first", 0), table(tmp_path / "second", 100)
    target = str(tmp_path / "target")
    commit, copied = filling.commit_first, clone._copied

    def taken_over(*arguments: Any) -> None:
        """The first work is past its last look; it commits while the second one copies."""
        monkeypatch.setattr(filling, "commit_first", commit)

        def copies(*others: Any) -> Any:
            commit(*arguments)
            return copied(*others)

        monkeypatch.setattr(clone, "_copied", copies)
        with pytest.raises(errors.TableExists):
            ENGINE.execute(target, Clone(second, take_over=True))

    monkeypatch.setattr(filling, "commit_first", taken_over)
    ENGINE.execute(target, Clone(first))
    assert ids(target) == list(range(10))
    assert len(files(tmp_path / "target")) == 2


def test_a_take_over_that_fails_gives_the_folder_back(tmp_path: Path) -> None:
    target, first, second = tmp_path / "target", Work("first"), Work("second")

    def fails() -> None:
        with filling.filling(target, second, take_over=True):
            (target / f"{second.prefix}-0.parquet").write_bytes(b"second")
            raise OSError(errno.EIO, "Input/output error")

    with filling.filling(target, first, keep_mark=True) as held:
        (target / f"{first.prefix}-0.parquet").write_bytes(b"first")
        with pytest.raises(DependencyUnreachable):
            fails()
        held.require()
    assert files(target) == {f"{MARK}.0001", f"{first.prefix}-0.parquet"}


def test_a_migrations_old_process_takes_nothing_of_the_new_ones_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, journal = tmp_path / "target", str(tmp_path / "journal")
    copied = migrate.copied

    def taken_over(*arguments: Any) -> None:
        monkeypatch.setattr(migrate, "copied", copied)
        copied(*arguments)
        done = migrate.migrate([], journal, switch=False, take_over=True)
        assert [one.state for one in done] == ["validated"]
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(migrate, "copied", taken_over)
    with pytest.raises(DependencyUnreachable):
        migrate.migrate([Migrate(folder(tmp_path / "source", 0), str(target))], journal)
    assert [one.state for one in migrate.migrate([], journal)] == ["switched"]
    assert ids(target) == list(range(10))
    assert len(files(target)) == 2
    assert [one.state for one in migrate.roll_back(journal)] == ["rolled_back"]
    assert not target.exists()


def test_a_table_that_is_there_is_not_called_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, copy = tmp_path / "made", tmp_path / "copy"
    source = table(tmp_path / "source", 0)
    monkeypatch.setattr(log_files, "sync_commit", fails_with(OSError(errno.EIO, "I/O error")))
    assert ENGINE.execute(str(made), Create(SCHEMA)).version_after == 0
    assert ENGINE.execute(str(copy), Clone(source)).version_after == 0
    assert ids(made) == []
    assert ids(copy) == list(range(10))
    assert not list(copy.glob(f"{MARK}*"))


def test_empty_folders_that_were_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, journal = tmp_path / "target", str(tmp_path / "journal")
    (target / "inbox" / "incoming").mkdir(parents=True)
    source = table(tmp_path / "source", 0)
    with monkeypatch.context() as patched:
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr(clone, "open_input", fails_with(full))
        with pytest.raises(errors.NotEnoughSpace, match="No space"):
            ENGINE.execute(str(target), Clone(source))
        with pytest.raises(errors.NotEnoughSpace):
            ENGINE.execute(str(tmp_path / "other"), Clone(source))
    assert not (tmp_path / "other").exists()
    assert [str(one.relative_to(target)) for one in sorted(target.rglob("*"))] == [
        "inbox",
        "inbox/incoming",
    ]
    moved = tmp_path / "moved" / "part=a"
    migrate.migrate([Migrate(str(Path(folder(moved, 0)).parent), str(target))], journal)
    assert ids(target) == list(range(10))
    migrate.roll_back(journal)
    assert [str(one.relative_to(target)) for one in sorted(target.rglob("*"))] == [
        "inbox",
        "inbox/incoming",
    ]
