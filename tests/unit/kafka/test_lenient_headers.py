from __future__ import annotations

from typing import Any

import pytest
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from raylake.kafka.bounded import LenientBatch


def batch_with_a_bad_header() -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for n in range(3):
        headers = [("QQQQ", b"v")] if n == 1 else [("good", b"v")]
        builder.append(n, timestamp=1, key=b"k", value=b"%d" % n, headers=headers)
    return bytes(builder.build()).replace(b"QQQQ", b"\xff\xfeab")


def read(kind: type[DefaultRecordBatch]) -> list[Any]:
    return list(kind(batch_with_a_bad_header()))


def test_a_header_key_that_is_not_utf8_keeps_its_record_and_its_neighbours() -> None:
    records = read(LenientBatch)
    assert [record.value for record in records] == [b"0", b"1", b"2"]
    assert [record.headers for record in records] == [
        [("good", b"v")],
        [("\\xff\\xfeab", b"v")],
        [("good", b"v")],
    ]
    assert all(type(record.value) is bytes for record in records)


def test_the_plain_batch_would_have_stopped_the_partition() -> None:
    with pytest.raises(CorruptRecordError, match="UnicodeDecodeError"):
        read(DefaultRecordBatch)
