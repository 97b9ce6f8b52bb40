"""Rows of a bronze table from a batch: what is taken over, and what is derived from it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylake.codecs.port import DeadRecord, Decoded
from raylake.ingest.dead_letters import LetterHead, dead_letters
from raylake.ingest.record_times import TIMESTAMP
from raylake.ingest.unit import SourcePartition
from raylake.kafka.port import FetchedBatch
from raylake.kafka.records import FETCH_SCHEMA
from raylake.layers.bronze import BronzeShape, assemble

HOUR_MS = 3_600_000
LAST_MS = int(dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp() * 1000)
BY_TIME = ("date(_timestamp)", "hour(_timestamp)", "date(at)", "date(day)")
HEADERS = st.lists(
    st.fixed_dictionaries({"key": st.text(max_size=3), "value": st.none() | st.binary(max_size=3)}),
    max_size=2,
)
RECORDS = st.lists(
    st.tuples(
        st.none() | st.integers(0, LAST_MS),
        st.none() | st.integers(-LAST_MS // 40, LAST_MS),
        st.none() | st.binary(max_size=3),
        st.just([]) | HEADERS,
        st.booleans(),
    ),
    max_size=8,
)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def moment(ms: int | None) -> dt.datetime | None:
    return None if ms is None else EPOCH + dt.timedelta(milliseconds=ms)


def rows_of(records: list[Any], partition_by: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of these records, of which the last member says whether they are kept."""
    count = len(records)
    # The second part of a batch, as a fetcher may give it.
    fetched = [(0, 0, b"", [], True), *records]
    columns = [
        range(9, 10 + count),
        [one[0] for one in fetched],
        [one[2] for one in fetched],
        [b"v"] * (count + 1),
        [one[3] for one in fetched],
    ]
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, FETCH_SCHEMA, strict=True)
    ]
    read = pa.record_batch(arrays, schema=FETCH_SCHEMA).slice(1)
    kept = [place for place, one in enumerate(records) if one[4]]
    at = pa.array([moment(records[place][1]) for place in kept], TIMESTAMP)
    payload = pa.record_batch({"at": at, "day": at.cast(pa.date32())})
    shape = BronzeShape.of(partition_by, keep_value=True, flags=False)
    batch = FetchedBatch(SourcePartition("t", "id", 3), 10, 10 + count, read, 0, 0)
    decoded = Decoded(payload, np.array(kept, np.int64))
    table = assemble(batch, decoded, shape, shape.schema(payload.schema), ingested_at_us=7)
    table.validate(full=True)
    assert table.schema.equals(shape.schema(payload.schema))
    return table.to_pylist()


@given(RECORDS)
def test_each_kept_record_is_a_row_with_its_own_coordinates_and_times(records: list[Any]) -> None:
    rows = iter(rows_of(records, BY_TIME))
    for place, (stamp_ms, at_ms, key, headers, kept) in enumerate(records):
        if not kept:
            continue
        row = next(rows)
        stamp, at = moment(stamp_ms), moment(at_ms)
        assert (row["_topic"], row["_partition"], row["_offset"]) == ("t", 3, 10 + place)
        assert (row["_timestamp"], row["at"]) == (stamp, at)
        assert (row["_key"], row["_value"], row["_headers"]) == (key, b"v", headers)
        assert row["_timestamp_date"] == (stamp and stamp.date())
        hour = None if stamp_ms is None else moment(stamp_ms // HOUR_MS * HOUR_MS)
        assert row["_timestamp_hour"] == hour
        assert row["at_date"] == row["day_date"] == (at and at.date())
        assert row["_ingested_at"] == EPOCH + dt.timedelta(microseconds=7)
    assert next(rows, None) is None


@pytest.mark.parametrize("kept", [[True, True, True], [False, True, True]])
def test_records_without_headers_have_an_empty_list(kept: list[bool]) -> None:
    rows = rows_of([(0, 0, b"k", [], one) for one in kept], ())
    assert [row["_headers"] for row in rows] == [[]] * sum(kept)


@pytest.mark.parametrize("timestamp_ms", [2**63 - 1, -(2**63), 2**63 // 1000 + 1])
def test_a_record_timestamp_that_no_table_can_hold_is_null(timestamp_ms: int) -> None:
    rows = rows_of([(timestamp_ms, 0, None, [], True), (1, 0, None, [], True)], BY_TIME)
    assert [row["_timestamp"] for row in rows] == [None, moment(1)]
    assert [row["_timestamp_date"] for row in rows] == [None, EPOCH.date()]


def test_a_dead_letter_has_such_a_timestamp_as_null() -> None:
    records = pa.record_batch([[1], [2**62], [b"k"], [b"v"], [[]]], schema=FETCH_SCHEMA)
    batch = FetchedBatch(SourcePartition("t", "id", 3), 1, 2, records, 0, 0)
    dead = [DeadRecord(0, "decode", "why", "Kind")]
    letters = dead_letters(LetterHead("p", "t"), batch, dead, 1.0)
    assert letters is not None
    assert letters.select(["offset", "timestamp", "value"]).to_pylist() == [
        {"offset": 1, "timestamp": None, "value": b"v"}
    ]
