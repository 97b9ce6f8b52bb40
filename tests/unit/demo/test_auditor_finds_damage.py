"""Every kind of damage to a table or its dead letters is found, counted and located."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raylake.demo.auditor import DAMAGES, AuditReport, Scope, audit
from tests.unit.demo.small_lake import Sent, SmallLake, sent_records

ABORTED = next(one for one in sent_records() if one.fate == "aborted")
DEAD = next(one for one in sent_records() if one.fate == "dead")
ROW = next(one for one in sent_records() if one.fate == "row")
TOMBSTONE = next(one for one in sent_records() if one.value is None)


@pytest.fixture
def lake(tmp_path: Path) -> SmallLake:
    return SmallLake(tmp_path)


def found(report: AuditReport) -> dict[str, int]:
    return {name: getattr(report, name) for name in DAMAGES if getattr(report, name)}


def dropping(*missing: Sent) -> Callable[[Sent], Sent | None]:
    return lambda sent: None if sent in missing else sent


def changing(old: Sent, **changes: object) -> Callable[[Sent], Sent | None]:
    return lambda sent: replace(sent, **changes) if sent == old else sent  # type: ignore[arg-type]


def test_a_sound_lake_balances(lake: SmallLake) -> None:
    report = lake.build().audit()
    assert found(report) == {}
    assert report.balanced
    assert (report.produced, report.rows, report.dead_letters, report.aborted) == (20, 14, 4, 2)
    assert (report.tombstones, report.table_files, report.values_compared) == (2, 2, True)


def test_a_lost_row_is_found(lake: SmallLake) -> None:
    report = lake.build(dropping(ROW)).audit()
    assert found(report) == {"lost": 1}
    assert not report.balanced
    assert report.examples["lost"] == [f"orders[{ROW.partition}]@{ROW.offset}: event, seen 0×"]


def test_a_lost_tombstone_is_found(lake: SmallLake) -> None:
    assert found(lake.build(dropping(TOMBSTONE)).audit()) == {"lost": 1}


def test_a_missing_dead_letter_is_found(lake: SmallLake) -> None:
    assert found(lake.build(dropping(DEAD)).audit()) == {"lost": 1}


def test_a_missing_dead_letter_table_loses_them_all(lake: SmallLake) -> None:
    lake.build()
    assert found(audit(lake.table, None, [lake.record])) == {"lost": 4}


def test_a_file_dropped_from_the_log_is_found(lake: SmallLake) -> None:
    lake.build()
    rows = lake.drop_a_file()
    assert rows == 7
    assert found(lake.audit()) == {"lost": rows}


def test_a_file_added_twice_is_found(lake: SmallLake) -> None:
    lake.build().add_copy_of_a_file()
    report = lake.audit()
    assert found(report) == {"duplicated": 7}
    assert report.rows == 21


def test_a_unit_committed_twice_is_found(lake: SmallLake) -> None:
    lake.build().add_rows([ROW])
    assert found(lake.audit()) == {"duplicated": 1}


def test_a_doubled_dead_letter_is_found(lake: SmallLake) -> None:
    lake.build().add_letters([DEAD])
    assert found(lake.audit()) == {"duplicated": 1}


def test_a_record_that_is_row_and_dead_letter_is_found(lake: SmallLake) -> None:
    lake.build().add_letters([ROW])
    assert found(lake.audit()) == {"duplicated": 1}


def test_a_phantom_is_found(lake: SmallLake) -> None:
    lake.build().add_rows([Sent(1, 99, b"{}"), Sent(7, 0, b"{}")])
    assert found(lake.audit()) == {"phantom": 2}


def test_a_phantom_dead_letter_is_found(lake: SmallLake) -> None:
    lake.build().add_letters([Sent(0, 50, b"?")])
    assert found(lake.audit()) == {"phantom": 1}


def test_a_shifted_offset_is_a_loss_and_a_phantom(lake: SmallLake) -> None:
    report = lake.build(changing(ROW, offset=1000)).audit()
    assert found(report) == {"lost": 1, "phantom": 1}


@pytest.mark.parametrize("old", [ROW, DEAD, TOMBSTONE], ids=["row", "dead letter", "tombstone"])
def test_altered_bytes_are_found(lake: SmallLake, old: Sent) -> None:
    assert found(lake.build(changing(old, value=b"{ }")).audit()) == {"altered": 1}


@pytest.mark.parametrize("old", [ROW, DEAD], ids=["row", "dead letter"])
def test_bytes_that_became_null_are_found(lake: SmallLake, old: Sent) -> None:
    assert found(lake.build(changing(old, value=None)).audit()) == {"altered": 1}


def test_two_swapped_values_are_found(lake: SmallLake) -> None:
    first, second = [one for one in sent_records() if one.fate == "row"][:2]

    def swap(sent: Sent) -> Sent:
        values = {first.offset: second.value, second.offset: first.value}
        return replace(sent, value=values[sent.offset]) if sent in (first, second) else sent

    assert found(lake.build(swap).audit()) == {"altered": 2}


def test_one_altered_copy_among_two_is_found_whatever_its_hash(lake: SmallLake) -> None:
    def digest(value: bytes | None) -> bytes:
        return hashlib.md5(value or b"").digest()

    others = [b"%d" % n for n in range(100)]
    rows = [one for one in sent_records() if one.fate == "row" and one.value]
    greater = next(v for v in others if digest(v) > digest(rows[0].value))
    smaller = next(v for v in others if digest(v) < digest(rows[1].value))
    lake.build().add_rows([replace(rows[0], value=greater), replace(rows[1], value=smaller)])
    assert found(lake.audit()) == {"duplicated": 2, "altered": 2}


def test_a_visible_aborted_record_is_found(lake: SmallLake) -> None:
    lake.build().add_rows([ABORTED])
    assert found(lake.audit()) == {"aborted_visible": 1}


def test_an_aborted_record_among_the_dead_letters_is_found(lake: SmallLake) -> None:
    lake.build().add_letters([ABORTED])
    assert found(lake.audit()) == {"aborted_visible": 1}


def test_a_dead_letter_kept_as_row_is_misplaced(lake: SmallLake) -> None:
    assert found(lake.build(changing(DEAD, fate="row")).audit()) == {"misplaced": 1}


def test_a_row_made_a_dead_letter_is_misplaced(lake: SmallLake) -> None:
    assert found(lake.build(changing(ROW, fate="dead")).audit()) == {"misplaced": 1}


def test_the_fate_either_allows_both_places_once(lake: SmallLake) -> None:
    lake.build()
    lake.write_record(
        [replace(s, fate="either") if s in (ROW, DEAD) else s for s in sent_records()]
    )
    assert found(lake.audit()) == {}
    lake.add_rows([DEAD])
    assert found(lake.audit()) == {"duplicated": 1}


def test_a_marker_of_loss_does_not_stand_for_its_records(lake: SmallLake) -> None:
    lake.build(dropping(ROW)).add_letters([replace(ROW, value=None)], stage="lost")
    report = lake.audit()
    assert found(report) == {"lost": 1}
    assert report.loss_markers == 1


def test_dead_letters_of_another_table_are_left_out(lake: SmallLake) -> None:
    lake.build().add_letters([ROW, DEAD], table="bronze.clicks")
    assert found(lake.audit()) == {"duplicated": 2}
    scope = Scope(dead_letters_of="bronze.orders")
    assert audit(lake.table, lake.letters, [lake.record], scope).balanced


def test_a_record_of_another_topic_does_not_match(lake: SmallLake) -> None:
    lake.build().write_record(sent_records(), topic="clicks")
    assert found(lake.audit()) == {"lost": 18, "phantom": 18}


def test_an_empty_record_never_balances(lake: SmallLake) -> None:
    lake.build().write_record([])
    report = lake.audit()
    assert report.phantom == 18
    assert not report.balanced


def test_a_tombstone_that_became_a_dead_letter_with_bytes_is_found(lake: SmallLake) -> None:
    lake.build(changing(TOMBSTONE, fate="dead", value=b"{}"))
    assert found(lake.audit()) == {"altered": 1, "misplaced": 1}
