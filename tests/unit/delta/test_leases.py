"""Leases of readers: renewed, released, expired, and never guessed at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylake.clock import ManualClock
from raylake.delta.leases import Leases, LeaseUnread, reader_of

DAY_S = 86_400.0


def test_a_lease_counts_until_it_was_not_renewed_for_too_long(tmp_path: Path) -> None:
    clock = ManualClock()
    leases = Leases(tmp_path, clock)
    leases.renew("mart", "t1", 5, 2 * DAY_S)
    leases.renew("other", "t1", 9, 30 * DAY_S)
    leases.renew("former", "t0", 1, 30 * DAY_S)
    held = leases.held("t1")
    assert (held.oldest, [one.reader for one in held.live], held.expired) == (
        5,
        ["mart", "other"],
        (),
    )
    clock.sleep(2 * DAY_S - 1)
    assert leases.held("t1").oldest == 5
    clock.sleep(1)
    held = leases.held("t1")
    assert (held.oldest, [one.reader for one in held.expired]) == (9, ["mart"])
    leases.renew("mart", "t1", 5, 2 * DAY_S)
    assert leases.held("t1").oldest == 5
    leases.release("mart")
    leases.release("mart")
    assert leases.held("t1").oldest == 9
    assert Leases(tmp_path, clock).held("t2").oldest is None


def test_an_unchanged_lease_is_written_anew_only_now_and_then(tmp_path: Path) -> None:
    clock = ManualClock()
    leases = Leases(tmp_path, clock)
    file = tmp_path / "_raylake" / "readers" / "mart.json"
    first = leases.renew("mart", "t", 5, DAY_S)
    file.unlink()
    clock.sleep(DAY_S / 20 - 1)
    assert leases.renew("mart", "t", 5, DAY_S) == first
    assert not file.exists()
    clock.sleep(1)
    again = leases.renew("mart", "t", 5, DAY_S)
    assert (again.since_ms, again.renewed_ms) == (first.since_ms, first.renewed_ms + 4_320_000)
    # Another process goes on with what it finds.
    assert Leases(tmp_path, clock).renew("mart", "t", 5, DAY_S) == again
    moved = leases.renew("mart", "t", 6, DAY_S)
    assert (moved.version, moved.since_ms) == (6, again.renewed_ms)
    assert json.loads(file.read_text())["version"] == 6
    assert [one.name for one in file.parent.iterdir()] == ["mart.json"]


def test_what_holds_and_what_was_passed_over_is_told(tmp_path: Path) -> None:
    clock = ManualClock()
    leases = Leases(tmp_path, clock)
    leases.renew("gone", "t", 3, 2 * DAY_S)
    clock.sleep(3 * DAY_S)
    leases.renew(reader_of("shop", "silver.orders"), "t", 7, 2 * DAY_S)
    leases.renew("ahead", "t", 20, 2 * DAY_S)
    note = leases.held("t").below(20).note(int(clock.now() * 1000))
    assert note == (
        "reader shop:silver.orders holds version 7 and later ones, until 2d from now unless it "
        "goes on; reader gone was passed over: it needed version 3, and has been silent for 3d "
        "(max_hold 2d)"
    )
    assert leases.held("t").below(3).note(0) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 2, "version": 3}',
        '{"format": 1, "version": "x"}',
    ],
)
def test_a_lease_that_cannot_be_read_is_not_passed_over(tmp_path: Path, text: str) -> None:
    leases = Leases(tmp_path)
    leases.renew("mart", "t", 5)
    file = tmp_path / "_raylake" / "readers" / "mart.json"
    file.write_text(text)
    with pytest.raises(LeaseUnread, match=r"mart\.json is not a reader's lease") as told:
        leases.held("t")
    assert told.value.exit_code == 5
    # The reader itself writes it anew.
    Leases(tmp_path).renew("mart", "t", 5)
    assert leases.held("t").oldest == 5
