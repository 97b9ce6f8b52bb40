"""The producer's record file: complete or absent, and only what a broker acknowledged."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylake.demo.record import RecordWriter


def test_a_record_holds_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "made" / "record.parquet"
    with RecordWriter(path, "orders", {"raylake.seed": "5"}) as record:
        for offset in range(70_000):
            record.add(offset % 4, offset, b"%d" % offset, "event", "row")
        record.add(0, 70_000, None, "tombstone", "row")
        record.add(0, 70_001, b"", "malformed:empty", "dead")
    table = pq.read_table(path)
    assert table.num_rows == 70_002
    assert table.schema.metadata[b"raylake.record"] == b"1"
    assert table.schema.metadata[b"raylake.seed"] == b"5"
    rows = table.slice(69_999).to_pylist()
    digests = [hashlib.md5(v).digest() for v in (b"69999", b"")]
    assert [row["md5"] for row in rows] == [digests[0], None, digests[1]]
    assert rows[2] == {
        "topic": "orders",
        "partition": 0,
        "offset": 70_001,
        "md5": digests[1],
        "kind": "malformed:empty",
        "fate": "dead",
    }


def test_an_interrupted_record_never_gets_its_name(tmp_path: Path) -> None:
    path = tmp_path / "record.parquet"
    with contextlib.suppress(KeyboardInterrupt), RecordWriter(path, "orders") as record:
        record.add(0, 0, b"x", "event", "row")
        raise KeyboardInterrupt
    assert record.written == 0
    assert not path.exists()


@pytest.mark.parametrize(("offset", "fate"), [(-1, "row"), (0, "maybe")])
def test_what_no_broker_acknowledged_is_refused(tmp_path: Path, offset: int, fate: str) -> None:
    with (
        pytest.raises(ValueError, match="partition 0"),
        RecordWriter(tmp_path / "r.parquet", "orders") as record,
    ):
        record.add(0, offset, b"x", "event", fate)
