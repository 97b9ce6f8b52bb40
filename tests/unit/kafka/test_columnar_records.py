"""The kernel reads a fetch answer as kafka-python does, record by record."""

from __future__ import annotations

import random
import struct
from types import SimpleNamespace

import pytest
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.legacy_records import LegacyRecordBatchBuilder

from raylake.kafka import columnar, decompression
from tests.unit.kafka.answers import (
    CODECS,
    COLUMNAR,
    Batch,
    Record,
    assert_same,
    marker,
    read,
    read_both,
    sealed,
)

ODD = [
    Record(b"k", None, timestamp=0),
    Record(None, b"", [("a", b"1"), ("a", None), ("ключ", b""), ("", b"\xff")]),
    Record(b"", b"\x00\xff", timestamp=-1),
    Record(b"x" * 64, b"y" * 8192, step=3),
]
MANY = [Record(b"%d" % n, b"value %06d" % n) for n in range(300)]


def values(raw: bytes, start: int = 0, **bounds: int) -> list[bytes | None]:
    return [row["value"] for row in assert_same(raw, start, **bounds).rows]


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_nulls_headers_times_and_gaps_are_read_alike(codec: int) -> None:
    first = Batch(ODD, 10, codec)
    raw = first.encode() + Batch(MANY, first.end + 5, codec, leader_epoch=6).encode()
    got = assert_same(raw, 10)
    assert len(got.rows) == 304
    assert got.leader_epoch == 6
    assert [row["timestamp_ms"] for row in got.rows[:3]] == [0, 1_700_000_000_000, None]


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@pytest.mark.parametrize("bounds", [{"records": 1}, {"records": 7}, {"nbytes": 1}, {"nbytes": 50}])
def test_both_stop_at_the_same_record(codec: int, bounds: dict[str, int]) -> None:
    raw = Batch(ODD, 0, codec).encode() + Batch(MANY[:40], 6, codec).encode()
    assert_same(raw, **bounds)


@pytest.mark.parametrize("codec", [0, 3])
def test_a_fetch_that_starts_inside_a_batch_drops_what_is_before(codec: int) -> None:
    raw = Batch(MANY, 0, codec).encode()
    assert values(raw, 290) == [b"value %06d" % n for n in range(290, 300)]


def test_the_cut_tail_of_an_answer_is_left_for_the_next_fetch() -> None:
    whole, cut = Batch(MANY[:3]).encode(), Batch(MANY[:3], 3).encode()
    for length in (1, 11, 12, 60, 61, len(cut) - 1):
        assert len(values(whole + cut[:length])) == 3


def test_one_record_a_batch() -> None:
    raw = b"".join(Batch([record], n).encode() for n, record in enumerate(MANY))
    got = assert_same(raw)
    assert got.calls == [300]


def test_a_batch_that_compaction_emptied_moves_the_position_only() -> None:
    empty = bytearray(Batch(MANY[:5], 7).encode()[:61])
    struct.pack_into(">i", empty, 57, 0)
    got = assert_same(sealed(empty) + Batch(MANY[:1], 20).encode(), 7)
    assert (len(got.rows), got.position) == (1, 21)


@pytest.mark.parametrize("codec", [0, 4])
def test_log_append_time_is_the_time_of_each_record(codec: int) -> None:
    got = assert_same(Batch(MANY[:3], codec=codec, append_ms=42).encode())
    assert [row["timestamp_ms"] for row in got.rows] == [42, 42, 42]


@pytest.mark.parametrize("codec", [0, 2])
def test_failure_08_only_committed_transactions_come_out(codec: int) -> None:
    def data(base: int, producer: int) -> Batch:
        return Batch([Record(value=b"%d" % base)], base, codec, producer, transactional=True)

    batches = [
        data(0, 1),
        data(1, 2),
        marker(2, 1, commit=False),
        data(3, 1),
        Batch(MANY[:1], 4, codec),
        marker(5, 2, commit=True),
        marker(6, 1, commit=True),
        Batch(MANY[:1], 7, codec, producer_id=9),
    ]
    aborted = [SimpleNamespace(producer_id=1, first_offset=0)]
    raw = b"".join(batch.encode() for batch in batches)
    plain, got = read_both(raw, aborted=aborted)
    assert got == plain
    assert [row["offset"] for row in got.rows] == [1, 3, 4, 7]
    assert got.position == 8


def test_a_header_key_that_is_not_utf8_is_written_out_as_the_plain_path_does() -> None:
    headers = [("good", b"v"), ("QQQQ", b"v"), ("ключ", None)]
    raw = Batch([Record(headers=headers)] * 3).encode().replace(b"QQQQ", b"\xff\xfeab")
    got = assert_same(sealed(raw))
    assert [header["key"] for header in got.rows[1]["headers"]] == ["good", "\\xff\\xfeab", "ключ"]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_the_older_formats_are_read_too(magic: int, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for n in range(10):
        builder.append(n, timestamp=1000 + n, key=None, value=b"old %d" % n, headers=[])
    raw = bytes(builder.build()) + Batch(MANY[:2], 10).encode()
    for bounds in ({}, {"records": 3}, {"nbytes": 20}):
        got = read_both(raw, 4, **bounds)
        for outcome in got:
            assert outcome.error is None
        assert got[0].rows == got[1].rows
        assert [row["offset"] for row in got[1].rows] == list(range(4, 12))
        assert got[1].position == 12


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
@pytest.mark.parametrize("part_bytes", [1, 64, 1000])
def test_a_long_batch_is_read_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch, codec: int, part_bytes: int
) -> None:
    for module in (columnar, decompression):
        monkeypatch.setattr(module, "PART_BYTES", part_bytes)
    monkeypatch.setattr(decompression, "_INPUT_BYTES", 50)
    raw = Batch(ODD, 0, codec).encode() + Batch(MANY[:50], 6, codec).encode()
    assert len(values(raw)) == 54
    assert_same(raw, records=3)


def test_a_record_beyond_what_memory_should_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (columnar, decompression):
        monkeypatch.setattr(module, "PART_BYTES", 1000)
    monkeypatch.setattr(columnar, "_LONGEST_RECORD_BYTES", 5000)
    got = read(COLUMNAR, Batch(ODD, 100, 1).encode(), 100)
    assert len(got.rows) == 3
    assert "at offset 100 holds a record of more than 5000 bytes" in str(got.error)


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("codec", [0, 1])
def test_a_wrong_checksum_comes_after_what_was_good_and_names_the_place(
    codec: int, transactional: bool
) -> None:
    batch = Batch(MANY[:9], 4, codec, 7 if transactional else -1, transactional)
    bad = bytearray(batch.encode())
    bad[-1] ^= 1
    got = read(COLUMNAR, Batch(MANY[:4]).encode() + bytes(bad))
    assert len(got.rows) == 4
    assert got.position == 4
    assert isinstance(got.error, CorruptRecordError)
    assert "topic='topic', partition=3) at offset 4 failed crc check" in str(got.error)


def test_what_is_no_compressed_data_is_a_damaged_batch() -> None:
    for name, codec in CODECS.items():
        if codec:
            raw = bytearray(Batch(MANY, 0, codec).encode())
            raw[61:] = b"this is not " + name.encode()
            got = read(COLUMNAR, sealed(raw))
            assert isinstance(got.error, CorruptRecordError)
            assert f"at offset 0 cannot be decompressed ({name})" in str(got.error)
            cut = read(COLUMNAR, sealed(Batch(MANY, 0, codec).encode()[:-9]))
            assert isinstance(cut.error, CorruptRecordError)


def test_a_compression_that_does_not_exist_is_said_as_kafka_python_says_it() -> None:
    raw = bytearray(Batch(MANY).encode())
    raw[22] |= 5
    for got in read_both(sealed(raw)):
        assert isinstance(got.error, UnsupportedCodecError)


def test_any_changed_byte_is_an_error_or_read_alike() -> None:
    choose = random.Random(38)
    for _ in range(1500):
        codec = choose.choice([0, 0, 0, 1, 2, 3, 4])
        raw = bytearray(Batch(choose.sample(ODD + MANY[:4], 5), 0, codec).encode())
        for _ in range(choose.choice([1, 1, 2, 8])):
            # Behind the checksum, which is made good again: what only the kernel can find.
            at = choose.choice([23, 57, 61, 61])
            raw[choose.randrange(at, min(at + 200, len(raw)))] = choose.choice([0, 255, 128, 7, 64])
        if choose.random() < 0.2:
            raw = raw[: choose.randrange(61, len(raw))]
        plain, got = read_both(sealed(raw))
        if got.error is None:
            assert plain.error is None
            assert got == plain
        else:
            assert isinstance(got.error, (CorruptRecordError, UnsupportedCodecError))


def test_lengths_that_lie_are_errors() -> None:
    good = bytearray(Batch([Record(value=b"v" * 100)]).encode())
    for at, size in ((61, 5), (65, 9), (66, 9), (67, 9)):
        for filler in (b"\xff", b"\x80", b"\x7f"):
            bad = good[:]
            bad[at : at + size] = filler * size
            assert isinstance(read(COLUMNAR, sealed(bad)).error, CorruptRecordError)
    for count in (0, 2, -1, 2**31 - 1):
        struct.pack_into(">i", good, 57, count)
        assert isinstance(read(COLUMNAR, sealed(good)).error, CorruptRecordError)


@pytest.mark.parametrize("length", [-1, 0, 13, 40])
def test_a_batch_shorter_than_its_header_is_an_error(length: int) -> None:
    raw = bytearray(Batch(MANY).encode())
    struct.pack_into(">i", raw, 8, length)
    assert isinstance(read(COLUMNAR, bytes(raw)).error, CorruptRecordError)


def test_batches_that_overlap_are_an_error() -> None:
    got = read(COLUMNAR, Batch(MANY[:9]).encode() + Batch(MANY[:9], 5).encode())
    assert [row["offset"] for row in got.rows] == list(range(9))
    assert "at offset 5 holds an offset that is not in its place" in str(got.error)
