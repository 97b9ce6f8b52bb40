"""Wherever a rewind ends, it is done whole or not at all, and the next owner finishes it (I12)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from raylake import faults
from raylake.clock import SystemClock
from raylake.delta.identity import Claim, OwnerIdentity
from raylake.delta.log_reader import LogReader
from raylake.delta.moves import Adopt, Skip
from raylake.delta.owned_table import OwnedTable
from raylake.delta.prepared import prepare, write_kept
from raylake.delta.rewinding import survey
from raylake.delta.spec import TableSpec
from raylake.errors import AlreadyRunning, Fenced, Refused
from raylake.storage.place import place
from tests.integration.verify.lake import PIPELINE, ROWS, Lake, Span, add
from tests.integration.verify.test_deliberate_moves import P0, balanced, offsets, order, rewind

ROOT = Path(__file__).resolve().parents[3]
OPEN = {"delta.appendOnly": "false"}
END = 150
COMMITS = ("append_only", "rewind")


def made(folder: Path, **more: Any) -> Lake:
    lake = Lake(folder, **{"properties": {"delta.appendOnly": "true"}, **more})
    lake.admit(Span(0, 0, 0))
    for first in range(0, 300, 100):
        dead, absent = frozenset({first + 7, first + 8}), frozenset({first + 99})
        lake.ingest(Span(0, first, first + 100, dead, absent))
    return lake


def append_only(lake: Lake) -> str | None:
    found: dict[str, str] = DeltaTable(lake.table).metadata().configuration
    return found.get("delta.appendOnly")


def kinds(lake: Lake, after: int) -> list[str]:
    commits = LogReader(str(lake.table)).commits(after + 1)
    return [str((one.raylake or {}).get("kind")) for one in commits]


def in_long(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.spec("A13")
@pytest.mark.parametrize(
    ("point", "spec", "done"),
    [
        ("rewind.surveyed", {}, False),
        in_long("owner.after_check", {"match": {"kind": "append_only"}}, False),
        in_long("owner.after_commit", {"match": {"kind": "append_only"}}, False),
        ("owner.after_check", {"match": {"kind": "rewind"}}, False),
        ("owner.after_commit", {"match": {"kind": "rewind"}}, True),
        in_long("owner.after_check", {"match": {"kind": "append_only"}, "skip": 1}, True),
        in_long("owner.after_commit", {"match": {"kind": "append_only"}, "skip": 1}, True),
        ("dlq.before_commit", {}, True),
        in_long("owner.after_check", {"match": {"kind": "withdraw"}}, True),
        ("owner.after_commit", {"match": {"kind": "withdraw"}}, True),
        ("owner.after_check", {"match": {"kind": "release"}}, True),
    ],
)
def test_a_rewind_killed_anywhere_is_done_or_not_and_the_next_owner_goes_on(
    tmp_path: Path, point: str, spec: dict[str, Any], done: bool
) -> None:
    lake = made(tmp_path / "lake")
    faults.arm(tmp_path / "faults", point, **spec)
    died = subprocess.run(
        [sys.executable, "-m", "tests.integration.verify.rewind_process", lake.root, str(END)],
        env={**os.environ, faults.ENV: str(tmp_path / "faults"), "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL
    assert len(faults.fired(tmp_path / "faults")) == 1
    report = lake.verify("data")
    assert report.ok, report.findings
    assert {f.kind for f in report.findings} <= {"dead_letters_leaving"}
    lake.owner = lake.attach()
    assert append_only(lake) == "true"
    assert lake.owner.states()[P0].next == (END if done else 300)
    lake.ingest(Span(0, lake.owner.states()[P0].next, 310, frozenset({301})))
    balanced(lake)
    rewind(lake, {P0: 100})
    assert offsets(lake.letters, 0, "") == [7, 8]
    lake.ingest(Span(0, 100, 310))
    balanced(lake)
    assert append_only(lake) == "true"


def test_a_table_that_somebody_has_opened_stays_open(tmp_path: Path) -> None:
    lake = made(tmp_path)
    DeltaTable(lake.table).alter.set_table_properties(OPEN)
    lake.owner = lake.attach()
    rewind(lake, {P0: END})
    lake.owner = lake.attach()
    assert append_only(lake) == "false"
    balanced(lake)


def test_a_refused_rewind_leaves_the_table_append_only(tmp_path: Path) -> None:
    lake = made(tmp_path)
    version = lake.owner.version
    with pytest.raises(Refused, match="does not lie before"):
        lake.owner.move(order(lake, {P0: 300}))
    assert append_only(lake) == "true"
    assert kinds(lake, version) == ["append_only", "append_only"]
    lake.owner.move(Skip(PIPELINE, {P0: 310}))
    balanced(lake)


def test_what_is_decided_on_an_opened_table_meanwhile_stays(tmp_path: Path) -> None:
    """A rewind was interrupted; then somebody has made the table append-only, and opened it."""
    lake = made(tmp_path)
    faults.arm(tmp_path / "faults", "owner.after_commit", match={"kind": "rewind"})
    subprocess.run(
        [sys.executable, "-m", "tests.integration.verify.rewind_process", lake.root, str(END)],
        env={**os.environ, faults.ENV: str(tmp_path / "faults"), "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert append_only(lake) == "false"
    DeltaTable(lake.table).alter.set_table_properties({"delta.appendOnly": "true"})
    lake.owner = lake.attach()
    DeltaTable(lake.table).alter.set_table_properties(OPEN)
    lake.owner = lake.attach()
    assert append_only(lake) == "false"


def test_a_fault_after_the_commit_does_not_make_a_rewind_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = made(tmp_path)
    monkeypatch.setenv(faults.ENV, str(tmp_path / "faults"))
    faults.arm(tmp_path / "faults", "owner.after_commit", action="error", match={"kind": "rewind"})
    (told,) = lake.owner.move(order(lake, {P0: END}))
    assert "the move is in the log" in told
    lake.settle()
    assert lake.owner.states()[P0].next == END
    assert append_only(lake) == "true"
    balanced(lake)


def test_a_fault_before_the_commit_changes_nothing_but_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = made(tmp_path)
    monkeypatch.setenv(faults.ENV, str(tmp_path / "faults"))
    faults.arm(tmp_path / "faults", "owner.after_check", action="error", match={"kind": "rewind"})
    with pytest.raises(OSError, match="injected"):
        lake.owner.move(order(lake, {P0: END}))
    assert lake.owner.states()[P0].next == 300
    assert append_only(lake) == "true"
    balanced(lake)


def run_of(lake: Lake, run: str, claim: Claim) -> OwnedTable:
    """An owner as a run has it."""
    identity = OwnerIdentity.of_this_process(PIPELINE, run)
    spec = TableSpec(str(lake.table), ROWS, (), {"delta.appendOnly": "true"})
    return OwnedTable.attach(spec, identity, clock=SystemClock(), durability="none", claim=claim)


@pytest.mark.spec("A13")
def test_a_rewind_prepares_without_the_table_and_gives_way_to_a_run_that_begins_meanwhile(
    tmp_path: Path,
) -> None:
    lake = made(tmp_path)
    lake.owner.release()
    wanted, root = order(lake, {P0: END}), place(str(lake.table))
    version = lake.owner.version
    found = survey(wanted, lake.owner.states(), LogReader(str(lake.table)))
    # The run has come and gone before the files are written, however long that takes.
    lake.owner = run_of(lake, "run-2", Claim(0.2))
    lake.ingest(Span(0, 300, 310))
    lake.owner.release()
    prepared = write_kept(wanted, found, root, "none")
    assert kinds(lake, version) == ["epoch", "data", "release"]
    lake.owner = run_of(lake, "rewind", Claim(0.2))
    with pytest.raises(Refused, match="kind data"):
        lake.owner.move(prepared)
    assert append_only(lake) == "true"
    balanced(lake)
    rewind(lake, {P0: END})
    balanced(lake)


def test_a_prepared_rewind_stands_when_only_owners_have_come_and_gone(tmp_path: Path) -> None:
    lake = made(tmp_path)
    prepared = prepare(order(lake, {P0: END}), lake.owner.states(), place(str(lake.table)), "none")
    lake.owner.release()
    run_of(lake, "run-2", Claim(0.2)).release()
    add(lake.table, [], {"somebody": 1})
    lake.owner = lake.attach()
    assert lake.owner.move(prepared) == ()
    lake.settle()
    balanced(lake)
    assert offsets(lake.table, 0)[-1] < END


def test_a_prepared_rewind_of_a_table_that_somebody_has_rewritten_is_refused(
    tmp_path: Path,
) -> None:
    lake = made(tmp_path)
    prepared = prepare(order(lake, {P0: END}), lake.owner.states(), place(str(lake.table)), "none")
    DeltaTable(lake.table).optimize.compact()
    with pytest.raises(Refused, match="OPTIMIZE"):
        lake.owner.move(prepared)
    balanced(lake)


def test_a_prepared_rewind_whose_files_somebody_has_vacuumed_is_refused(tmp_path: Path) -> None:
    lake = made(tmp_path)
    prepared = prepare(order(lake, {P0: END}), lake.owner.states(), place(str(lake.table)), "none")
    (Path(lake.table) / prepared.kept[0].path).unlink()
    with pytest.raises(Refused, match="is gone; nothing was changed"):
        lake.owner.move(prepared)
    assert append_only(lake) == "true"
    balanced(lake)


def test_under_its_epoch_a_rewind_keeps_others_out_or_is_fenced_with_nothing_lost(
    tmp_path: Path,
) -> None:
    lake = made(tmp_path)
    lake.owner.release()
    wanted, root = order(lake, {P0: END}), place(str(lake.table))
    prepared = prepare(wanted, lake.owner.states(), root, "none")
    owner = run_of(lake, "rewind", Claim(30.0))
    with pytest.raises(AlreadyRunning):
        run_of(lake, "run-2", Claim(30.0))
    lake.owner = run_of(lake, "run-2", Claim(None))
    with pytest.raises(Fenced):
        owner.move(prepared)
    lake.ingest(Span(0, 300, 310, frozenset({301})))
    assert append_only(lake) == "true"
    balanced(lake)


def test_an_adopted_table_is_never_opened(tmp_path: Path) -> None:
    lake = Lake(tmp_path, properties={"delta.appendOnly": "true"})
    version = lake.owner.version
    assert lake.owner.move(Adopt(PIPELINE, {P0: 0})) == ()
    assert kinds(lake, version) == ["adopt"]
