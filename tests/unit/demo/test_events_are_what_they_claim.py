"""The demo's stream: a function of its seed, with every kind in it, and fates that hold."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pytest

from raylake.codecs import RECORD_SCHEMA, DecoderSpec, make_decoder, merge_schema, parse_schema
from raylake.demo import events, poison
from raylake.demo.events import Planned, StreamPlan

PLAN = StreamPlan(seed=11, count=60_000, start_ms=1_763_700_000_000)


def stream(plan: StreamPlan, partition: int = 0) -> list[Planned]:
    return [planned for chunk in events.chunks(plan, partition) for planned in chunk]


@pytest.fixture(scope="module")
def everything() -> list[Planned]:
    return [planned for partition in range(4) for planned in stream(PLAN, partition)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    again = StreamPlan(seed=11, count=60_000, start_ms=1_763_700_000_000)
    assert stream(PLAN, 2) == stream(again, 2)
    other = StreamPlan(seed=12, count=60_000, start_ms=1_763_700_000_000)
    assert stream(PLAN, 2) != stream(other, 2)
    assert stream(PLAN, 1) != stream(PLAN, 2)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 999, 20_003])
def test_the_partitions_share_exactly_the_count(count: int) -> None:
    plan = StreamPlan(seed=1, count=count, start_ms=0)
    sizes = [len(stream(plan, partition)) for partition in range(4)]
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1


def test_every_kind_and_every_poison_is_in_the_stream(everything: list[Planned]) -> None:
    kinds = Counter(planned.kind for planned in everything)
    expected = {"event", "new_field", *events.SHARES} - {"malformed"}
    assert set(kinds) == expected | {f"malformed:{name}" for name in poison.NAMES}
    dead = sum(planned.fate == "dead" for planned in everything)
    assert dead / len(everything) == pytest.approx(0.005, rel=0.1)


def test_values_are_about_two_hundred_bytes(everything: list[Planned]) -> None:
    sizes = [len(p.value or b"") for p in everything if p.kind in {"event", "new_field"}]
    assert 180 < sum(sizes) / len(sizes) < 220


def test_the_new_field_is_there_from_the_middle_on() -> None:
    plain = [p for p in stream(PLAN) if p.kind in {"event", "new_field"} and p.value]
    present = ["channel" in json.loads(p.value or b"") for p in plain]
    first = present.index(True)
    assert all(present[first:])
    assert first / len(present) == pytest.approx(0.5, abs=0.01)


def test_times_are_late_ahead_or_near_as_the_kind_says(everything: list[Planned]) -> None:
    def lead_s(planned: Planned) -> float:
        text = json.loads(planned.value or b"")["ordered_at"]
        at = pa.scalar(text.removesuffix("Z")).cast(pa.timestamp("ms")).value
        return (int(at) - planned.timestamp_ms) / 1000

    leads = {
        kind: [lead_s(p) for p in everything if p.kind == kind]
        for kind in ("event", "late", "far_future")
    }
    assert all(-60 <= lead < 0 for lead in leads["event"])
    assert all(lead <= -3600 for lead in leads["late"])
    assert all(lead > 365 * 86_400 for lead in leads["far_future"])


def test_transactions_of_a_chunk_lie_in_different_halves() -> None:
    for number, chunk in enumerate(events.chunks(PLAN, 3)):
        cut = len(chunk) // 2
        halves = [{p.transaction for p in part} - {""} for part in (chunk[:cut], chunk[cut:])]
        assert halves == ([{"abort"}, {"commit"}] if number % 2 else [{"commit"}, {"abort"}])


def decode(chunk: list[Planned]) -> dict[int, str]:
    """What the product's decoder makes of a chunk: place → reason, for the dead ones."""
    records = pa.record_batch(
        [
            pa.array(range(len(chunk)), pa.int64()),
            pa.array([p.timestamp_ms for p in chunk], pa.int64()),
            pa.array([p.key for p in chunk], pa.binary()),
            pa.array([p.value for p in chunk], pa.binary()),
            pa.array([[] for _ in chunk], RECORD_SCHEMA.field("headers").type),
        ],
        schema=RECORD_SCHEMA,
    )
    schema = parse_schema(events.SCHEMA)
    decoded = make_decoder(DecoderSpec("json", schema)).decode(records)
    if decoded.additions is not None:
        assert decoded.additions.names == [events.NEW_FIELD]
        schema = merge_schema(schema, decoded.additions)
        decoded = make_decoder(DecoderSpec("json", schema)).decode(records)
    assert len(decoded.kept) + len(decoded.dead) == len(chunk)
    return {dead.row: dead.reason for dead in decoded.dead}


def test_the_decoder_gives_every_record_its_expected_fate(everything: list[Planned]) -> None:
    committed = [p for p in everything if p.fate != "aborted"]
    for start in range(0, len(committed), 5_000):
        chunk = committed[start : start + 5_000]
        dead = decode(chunk)
        wrong = [p.kind for i, p in enumerate(chunk) if (p.fate == "dead") != (i in dead)]
        assert wrong == []


@pytest.mark.parametrize("kind", poison.NAMES)
def test_one_poison_among_good_neighbours_is_the_only_dead_one(kind: str) -> None:
    good = [p for p in stream(PLAN)[:200] if p.kind == "event"]
    broken = poison.poison(kind, (good[50].value or b"").decode())
    chunk = [*good[:50], good[50]._replace(value=broken), *good[51:]]
    assert list(decode(chunk)) == [50]
