"""I1 as a table: the six relations of a range to what is committed, and the fold's answers."""

from __future__ import annotations

import pytest

from raylake.delta.ledger import (
    DONE,
    Decision,
    Ledger,
    Relation,
    Verdict,
    admitted,
    advance,
    app_id,
    fold,
    merged_ranges,
    owner_epoch,
    owner_number,
    parse_app_id,
    relation,
    state_from_values,
)
from raylake.ingest.unit import Counts, OffsetRange, PartitionState, SourcePartition, Unit

P0 = SourcePartition("orders", "id", 0)
P1 = SourcePartition("orders", "id", 1)


def span(source: SourcePartition, start: int, end: int) -> OffsetRange:
    return OffsetRange(source, start, end, Counts(rows=end - start))


def unit(*ranges: OffsetRange, generation: int = 1, fingerprint: str = "f", **more: object) -> Unit:
    return Unit("p", "c", generation, fingerprint, ranges, **more)  # type: ignore[arg-type]


def at(*ends: int, generation: int = 1) -> Ledger:
    states = {
        s: PartitionState(0, end, Counts(rows=end)) for s, end in zip((P0, P1), ends, strict=False)
    }
    return Ledger(states, dict.fromkeys(states, "p"), dict.fromkeys(states, generation), "f")


def decide(
    ledger: Ledger, *units: Unit, bad: dict[str, str] | None = None
) -> list[tuple[str, str]]:
    decisions: tuple[Decision, ...] = fold(units, ledger, bad).decisions
    return [(d.verdict.value, d.reason) for d in decisions]


@pytest.mark.spec("A3")
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (20, 30, Relation.NEW),
        (20, 20, Relation.NEW),
        (10, 20, Relation.SAME),
        (15, 25, Relation.OVERLAP),
        (5, 21, Relation.OVERLAP),
        (12, 18, Relation.CONTAINED),
        (5, 15, Relation.CONTAINED),
        (10, 10, Relation.BELOW),
        (0, 10, Relation.BELOW),
        (3, 4, Relation.BELOW),
        (21, 30, Relation.BEYOND),
        (21, 21, Relation.BEYOND),
    ],
)
def test_the_six_relations(start: int, end: int, expected: Relation) -> None:
    assert relation(start, end, (10, 20)) is expected


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([span(P0, 20, 30)], ("accept", "")),
        ([span(P0, 20, 30), span(P1, 5, 9)], ("accept", "")),
        ([span(P0, 20, 30), span(P1, 5, 5)], ("accept", "")),
        ([span(P0, 0, 20)], ("already", "")),
        ([span(P0, 10, 20), span(P1, 0, 5)], ("already", "")),
        ([span(P0, 10, 20), span(P1, 5, 5)], ("already", "")),
        ([span(P0, 20, 20)], ("already", "")),
        ([span(P0, 19, 30)], ("refuse", "overlap")),
        ([span(P0, 21, 30)], ("refuse", "gap")),
        ([span(P0, 21, 21)], ("refuse", "gap")),
        ([span(P0, 20, 30), span(P1, 0, 5)], ("refuse", "mixed")),
        ([span(P0, 20, 30), span(P1, 6, 7)], ("refuse", "gap")),
        ([span(P0, 20, 30), span(P1, 0, 6)], ("refuse", "overlap")),
        ([span(SourcePartition("orders", "other id", 0), 20, 30)], ("refuse", "not_admitted")),
    ],
)
def test_a_unit_is_taken_whole_or_not_at_all(
    ranges: list[OffsetRange], expected: tuple[str, str]
) -> None:
    assert decide(at(20, 5), unit(*ranges)) == [expected]


def test_a_refused_unit_holds_up_nobody() -> None:
    first, gap, next_one = span(P0, 20, 22), span(P0, 23, 24), span(P0, 22, 23)
    assert decide(at(20), unit(first), unit(gap), unit(next_one)) == [
        ("accept", ""),
        ("refuse", "gap"),
        ("accept", ""),
    ]


def test_an_older_generation_is_refused_and_a_newer_one_is_not() -> None:
    ledger = at(20, generation=5)
    assert decide(ledger, unit(span(P0, 20, 21), generation=4)) == [("refuse", "generation")]
    assert decide(ledger, unit(span(P0, 20, 21), generation=6)) == [("accept", "")]


def test_what_is_done_is_done_also_for_an_old_generation_and_schema() -> None:
    old = unit(span(P0, 10, 20), generation=0, fingerprint="old")
    assert decide(at(20, generation=5), old) == [("already", "")]


def test_an_old_schema_is_refused() -> None:
    assert decide(at(20), unit(span(P0, 20, 21), fingerprint="old")) == [("refuse", "schema")]


def test_a_bad_file_refuses_its_unit_and_what_builds_on_it() -> None:
    bad, after = unit(span(P0, 20, 21)), unit(span(P0, 21, 22))
    found = decide(at(20), bad, after, bad={bad.unit_id: "file: gone"})
    assert found == [("refuse", "file: gone"), ("refuse", "gap")]


def test_another_pipelines_partition_is_not_admitted() -> None:
    ledger = Ledger({P0: admitted(0)}, {P0: "other"}, {}, "f")
    assert decide(ledger, unit(span(P0, 0, 1))) == [("refuse", "not_admitted")]


def test_one_unit_handed_over_twice_at_once_is_taken_once() -> None:
    one = unit(span(P0, 20, 21))
    assert decide(at(20), one, one) == [("accept", ""), ("already", "")]


def test_a_unit_without_ranges_is_nothing_to_do() -> None:
    assert decide(at(20), unit()) == [("already", "")]


def test_advance_refuses_a_range_that_does_not_start_at_the_end() -> None:
    with pytest.raises(ValueError, match="does not start at 20"):
        advance(at(20).states[P0], span(P0, 21, 22))


def test_the_leader_epoch_and_event_time_are_the_newest_known() -> None:
    first = advance(admitted(0), OffsetRange(P0, 0, 1, Counts(rows=1), 7, 50))
    second = advance(first, OffsetRange(P0, 1, 2, Counts(rows=1), -1, 40))
    assert (second.leader_epoch, second.max_event_ms) == (7, 50)


def test_units_of_one_partition_become_one_range() -> None:
    merged = merged_ranges([unit(span(P1, 5, 6), span(P0, 20, 21)), unit(span(P0, 21, 25))])
    assert [(r.source, r.start, r.end, r.counts.rows) for r in merged] == [
        (P0, 20, 25, 5),
        (P1, 5, 6, 1),
    ]


def test_app_ids_are_read_back() -> None:
    text = app_id("p", P1, "next")
    assert text == "raylake/p/orders/id/1/next"
    parsed = parse_app_id(text)
    assert parsed is not None
    assert (parsed.pipeline, parsed.source, parsed.name) == ("p", P1, "next")


@pytest.mark.parametrize(
    "text", ["raylake/owner", "spark", "raylake/p/t/id/x/next", "raylake/p/t/id/1/else"]
)
def test_other_app_ids_are_not_ours(text: str) -> None:
    assert parse_app_id(text) is None


def test_a_name_with_a_slash_cannot_be_an_app_id() -> None:
    with pytest.raises(ValueError, match="cannot be part"):
        app_id("a/b", P0, "next")


def test_owner_numbers_hold_epoch_and_commit() -> None:
    assert owner_number(3, 5) == 3 * 2**32 + 5
    assert owner_epoch(owner_number(3, 2**32 - 1)) == 3


def test_a_partition_without_origin_has_no_state() -> None:
    assert state_from_values({"next": 5}) is None


def test_every_verdict_is_reachable() -> None:
    assert {v.value for v in Verdict} == {"accept", "already", "refuse"}
    assert Relation.NEW not in DONE
