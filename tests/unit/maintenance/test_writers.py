"""Pieces that this process writes anew itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest

from raylake.delta.files import WriteOptions
from raylake.delta.live_rows import SourceFile
from raylake.errors import LogDamaged
from raylake.maintenance import writers
from raylake.maintenance.writers import WriterHere
from raylake.tables.aside import Aside, Written
from raylake.tables.rewrite_parts import Part, Stream, write_parts

SCHEMA = pa.schema([("x", pa.int64())])


def piece(*zorder: str) -> Aside:
    return Aside("t", 0, "{}", (), {}, (), zorder, 1)


def test_pieces_are_written_at_once_and_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)

    def written(asked: Aside, threads: int = 1) -> Written:
        both.wait()
        if asked.zorder:
            assert threads == 2
            raise LogDamaged("a file is gone")
        assert threads == 1
        return Written((), 0.0, 0.0)

    monkeypatch.setattr(writers, "threads_here", lambda: 2)
    monkeypatch.setattr(writers, "write_aside", written)
    here = WriterHere()
    assert here.slots == 2
    here.begin(1, piece())
    here.begin(2, piece("x"))
    found = dict(here.ended(60))
    while len(found) < 2:
        found |= dict(here.ended(60))
    assert isinstance(found[1], Written)
    assert found[1].cpu_s >= 0
    assert isinstance(found[2], LogDamaged)


def test_two_z_orders_never_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running = threading.Semaphore(1)

    def written(_asked: Aside, _threads: int = 1) -> Written:
        assert running.acquire(blocking=False)
        running.release()
        return Written((), 0.0, 0.0)

    monkeypatch.setattr(writers, "threads_here", lambda: 4)
    monkeypatch.setattr(writers, "write_aside", written)
    here = WriterHere()
    for key in range(40):
        here.begin(key, piece("x"))
    found = 0
    while found < 40:
        found += len(here.ended(60))


@pytest.mark.parametrize("threads", [1, 3])
def test_after_an_error_no_part_leaves_a_file(tmp_path: Path, threads: int) -> None:
    file = SourceFile("p", 1, 1, 0, {})
    one = pa.RecordBatch.from_pylist([{"x": 1}], SCHEMA)

    def bad() -> Stream:
        def rows() -> Iterator[pa.RecordBatch]:
            yield one
            raise LogDamaged("a file is gone")

        return {}, rows()

    parts = [Part((file,), lambda: nullcontext([({}, iter([one]))])) for _ in range(5)]
    options = WriteOptions(durability="none")
    groups = write_parts(tmp_path, SCHEMA, parts, options, threads)
    assert [group.rows for group in groups] == [1] * 5
    there = set(tmp_path.iterdir())
    assert len(there) == 5
    parts.insert(3, Part((file,), lambda: nullcontext([({}, iter([one])), bad()]), threads))
    with pytest.raises(LogDamaged):
        write_parts(tmp_path, SCHEMA, parts, options, threads)
    assert set(tmp_path.iterdir()) == there
