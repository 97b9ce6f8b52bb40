from __future__ import annotations

from typing import Any

import pytest

from raylake.delta.ledger import OWNER_APP, app_id, owner_number
from raylake.delta.log_reader import Commit
from raylake.delta.verify_history import HistoryWalk
from raylake.delta.verify_model import FindingList
from raylake.ingest.unit import SourcePartition

SOURCE = SourcePartition("t", "id", 0)


def key(name: str) -> str:
    return app_id("p", SOURCE, name)


def ours(
    version: int,
    number: int,
    kind: str = "data",
    *,
    ranges: list[dict[str, Any]] | None = None,
    txns: dict[str, int] | None = None,
    actions: tuple[dict[str, Any], ...] = (),
) -> Commit:
    metadata = {"kind": kind, "owner": number, "ranges": ranges or []}
    return Commit(version, {}, metadata, {OWNER_APP: number, **(txns or {})}, actions)


def span(start: int, end: int, **counts: int) -> dict[str, Any]:
    known = {"rows": end - start, "dead": 0, "absent": 0, "lost": 0, "dropped": 0, **counts}
    return {"pipeline": "p", "topic": "t", "topic_id": "id", "partition": 0, "start": start,
            "end": end, **known}  # fmt: skip


def add(path: str, rows: int, *, data_change: bool = True) -> dict[str, Any]:
    stats = f'{{"numRecords":{rows}}}'
    return {"add": {"path": path, "stats": stats, "dataChange": data_change}}


def data(version: int, number: int, start: int, end: int) -> Commit:
    txns = {key("next"): end, key("rows"): end}
    files = (add(f"f{version}", end - start),)
    return ours(version, number, ranges=[span(start, end)], txns=txns, actions=files)


def walked(*commits: Commit, txns: dict[str, int] | None = None) -> list[tuple[str, str]]:
    findings = FindingList()
    walk = HistoryWalk(findings)
    walk.run(commits)
    if txns is not None:
        walk.compare(txns)
    return [(f.kind, f.where) for f in findings.result() if f.is_difference]


def number(epoch: int, count: int) -> int:
    return owner_number(epoch, count)


CREATED = ours(0, 0, "create")
EPOCH = ours(1, number(1, 0), "epoch")
ADMITTED = ours(2, number(1, 1), "admit", txns={key("next"): 0, key("origin"): 0})
GOOD = (CREATED, EPOCH, ADMITTED, data(3, number(1, 2), 0, 10), data(4, number(1, 3), 10, 15))


def test_an_unbroken_chain_over_two_epochs_has_no_finding() -> None:
    later = (ours(5, number(2, 0), "epoch"), data(6, number(2, 1), 15, 16))
    txns = {
        OWNER_APP: number(2, 1), key("next"): 16, key("rows"): 16, key("origin"): 0,
    }  # fmt: skip
    assert walked(*GOOD, *later, txns=txns) == []
    for first in range(len(GOOD)):
        assert walked(*GOOD[first:], *later, txns=txns) == []


@pytest.mark.parametrize(
    "wrong", [number(1, 3), number(1, 5), number(2, 1), number(3, 0), number(0, 9)]
)
def test_an_owner_number_that_does_not_follow(wrong: int) -> None:
    assert walked(*GOOD, ours(5, wrong, "epoch")) == [("owner_number", "version 5")]


@pytest.mark.parametrize(("start", "end"), [(14, 20), (16, 20), (0, 15)])
def test_a_range_that_does_not_start_at_the_end(start: int, end: int) -> None:
    assert ("chain", "version 5, t[0]") in walked(*GOOD, data(5, number(1, 4), start, end))


def test_counts_that_the_txns_do_not_carry() -> None:
    short = ours(
        5,
        number(1, 4),
        ranges=[span(15, 20, rows=4, dead=1)],
        txns={key("next"): 20, key("rows"): 19},
        actions=(add("f5", 4),),
    )
    assert walked(*GOOD, short) == [("chain", "version 5, t[0]")]


def test_an_end_that_moves_without_a_range() -> None:
    moved = ours(5, number(1, 4), txns={key("next"): 20})
    assert walked(*GOOD, moved) == [("chain", "version 5, t[0]")]


def test_rows_beside_the_ranges_and_files_that_are_added_while_live() -> None:
    extra = ours(5, number(1, 4), "evolve", actions=(add("f4", 5),))
    assert walked(*GOOD, extra) == [("duplicate_file", "version 5, f4")]
    more = ours(5, number(1, 4), ranges=[], actions=(add("f9", 5),))
    assert walked(*GOOD, more) == [("commit_rows", "version 5")]


@pytest.mark.parametrize(("rows", "expected"), [(15, []), (14, [("commit_rows", "version 5")])])
def test_a_rewrite_must_keep_its_rows(rows: int, expected: list[tuple[str, str]]) -> None:
    gone = tuple({"remove": {"path": p, "dataChange": False}} for p in ("f3", "f4"))
    rewrite = (*gone, add("compacted", rows, data_change=False))
    assert walked(*GOOD, ours(5, number(1, 4), "compact", actions=rewrite)) == expected


def test_foreign_commits_are_named_and_fail_only_when_they_touch_the_ledger() -> None:
    info = {"operation": "WRITE", "engineInfo": "Spark"}
    harmless = Commit(5, info, None, {"spark-app": 3}, (add("x", 1),))
    assert walked(*GOOD, harmless, data(6, number(1, 4), 15, 16)) == []
    touching = Commit(5, info, None, {OWNER_APP: number(1, 4)}, ())
    assert walked(*GOOD, touching) == [("foreign_commit", "version 5")]


def test_the_table_must_stand_where_its_commits_lead() -> None:
    txns = {OWNER_APP: number(1, 3), key("next"): 15, key("rows"): 15, key("origin"): 0}
    assert walked(*GOOD, txns=txns) == []
    assert walked(*GOOD, txns={**txns, key("next"): 14}) == [("final_state", key("next"))]
    nowhere = {**txns, key("dead"): 1}
    assert walked(*GOOD, txns=nowhere) == [("final_state", key("dead"))]
    assert walked(*GOOD[1:], txns=nowhere) == []


def test_many_findings_of_a_kind_are_cut_and_counted() -> None:
    commits = [ours(v, number(1, 2 * v), "epoch") for v in range(100)]
    findings = walked(*commits)
    assert len(findings) == 21
    assert findings[-1] == ("owner_number", "…")
