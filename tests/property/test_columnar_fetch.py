"""Whatever an answer holds, the columnar reading of it is the plain one."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kafka.answers import CODECS, Batch, Record, marker, read_both

blobs = st.one_of(st.none(), st.binary(max_size=300), st.just(b"z" * 20_000))
records = st.builds(
    Record,
    key=blobs,
    value=blobs,
    headers=st.lists(st.tuples(st.text(max_size=9), blobs), max_size=3),
    timestamp=st.one_of(st.just(-1), st.integers(0, 2**42)),
    step=st.sampled_from([1, 1, 1, 2, 70]),
)
codecs = st.sampled_from(sorted(CODECS.values()))


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, int, list[SimpleNamespace]]:
    """The bytes of an answer, the offsets that it begins and ends at, aborted transactions."""
    at = first = draw(st.integers(0, 2**40))
    raw = b""
    aborted = []
    for _ in range(draw(st.integers(1, 5))):
        at += draw(st.sampled_from([0, 0, 3]))
        producer = draw(st.integers(-1, 3))
        batch = Batch(
            draw(st.lists(records, min_size=1, max_size=6)),
            at,
            draw(codecs),
            producer,
            transactional=producer > 0,
            append_ms=draw(st.sampled_from([None, None, 1_700_000_000_000])),
        )
        raw += batch.encode()
        at = batch.end
        if producer > 0:
            commit = draw(st.booleans())
            if not commit:
                aborted.append(SimpleNamespace(producer_id=producer, first_offset=batch.base))
            raw += marker(at, producer, commit=commit).encode()
            at += 1
    return raw, first, at, aborted


@settings(deadline=None)
@given(
    answer=answers(),
    back=st.integers(0, 40),
    cut=st.sampled_from([0, 0, 0, 1, 30, 100]),
    max_records=st.sampled_from([1, 2, 10**9]),
    max_bytes=st.sampled_from([1, 100, 10**9]),
)
def test_property_columns_are_what_kafka_python_reads(
    answer: tuple[bytes, int, int, list[SimpleNamespace]],
    back: int,
    cut: int,
    max_records: int,
    max_bytes: int,
) -> None:
    raw, first, end, aborted = answer
    raw = raw[: len(raw) - cut]
    start = max(first, end - back)
    plain, columnar = read_both(raw, start, records=max_records, nbytes=max_bytes, aborted=aborted)
    assert plain.error is None
    assert columnar == plain
