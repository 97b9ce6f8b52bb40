from __future__ import annotations

from kafka.consumer.fetcher import ConsumerRecord

from raylake.kafka.records import FETCH_SCHEMA, to_arrow


def record(offset: int, **fields: object) -> ConsumerRecord:
    plain = dict.fromkeys(ConsumerRecord._fields)
    return ConsumerRecord(**{**plain, "timestamp": 1, "headers": [], "offset": offset, **fields})


def test_no_records_are_an_empty_batch_of_the_same_schema() -> None:
    batch = to_arrow([])
    assert batch.num_rows == 0
    assert batch.schema == FETCH_SCHEMA


def test_a_missing_timestamp_is_null_and_zero_is_not() -> None:
    batch = to_arrow([record(0, timestamp=-1), record(1, timestamp=0)])
    assert batch.column("timestamp_ms").to_pylist() == [None, 0]


def test_headers_keep_order_repeats_and_nulls() -> None:
    headers = [("a", b"1"), ("a", None), ("b", b"")]
    batch = to_arrow([record(5), record(9, headers=headers), record(10, headers=[("c", b"x")])])
    found = [[(h["key"], h["value"]) for h in one] for one in batch.column("headers").to_pylist()]
    assert found == [[], headers, [("c", b"x")]]
    assert batch.column("offset").to_pylist() == [5, 9, 10]


def test_null_and_empty_keys_and_values_differ() -> None:
    batch = to_arrow([record(0, key=None, value=b""), record(1, key=b"", value=None)])
    assert batch.column("key").to_pylist() == [None, b""]
    assert batch.column("value").to_pylist() == [b"", None]
