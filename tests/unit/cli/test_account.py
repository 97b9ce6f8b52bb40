"""The account that ``raylake verify`` prints: which partition, and what it stands on."""

from __future__ import annotations

from rich.console import Console

from raylake.cli.verify import relied_on, show
from raylake.delta.verify import DeadLetterAccount, PartitionAccount, PipelineReport, VerifyReport
from raylake.ingest.unit import Counts, SourcePartition

OLD, NEW = "11111111-aaaa-bbbb", "22222222-aaaa-bbbb"
RELIED = {"version": 3, "checkpoint": None, "commits_retained": [0, 3], "footers_read": 0}


def report(**relied: object) -> VerifyReport:
    sources = [
        SourcePartition("orders", OLD, 0),
        SourcePartition("orders", NEW, 0),
        SourcePartition("orders", NEW, 1),
    ]
    accounts = tuple(PartitionAccount("p", one, 0, 5, Counts(rows=5)) for one in sources)
    return VerifyReport("/t", "p", "log", accounts, 15, 1, None, (), {**RELIED, **relied})


def test_partitions_of_a_topic_that_was_created_again_are_told_apart() -> None:
    letters = DeadLetterAccount(None, None, 0, 0, 0)
    console = Console(width=200)
    with console.capture() as captured:
        show(PipelineReport("p", "log", (report(),), letters, ()), console)
    said = captured.get()
    names = [line.split("  ")[0].strip() for line in said.splitlines() if "orders[" in line]
    assert names == ["orders[0] (11111111)", "orders[0] (22222222)", "orders[1]"]
    assert "relied on: commits 0 to 3, no checkpoint" in said


def test_what_an_account_stands_on_is_one_line() -> None:
    assert relied_on(report()) == (
        "relied on: commits 0 to 3, no checkpoint, the footers of 0 files"
    )
    assert relied_on(report(checkpoint=7, commits_retained=[None, None], footers_read=1)) == (
        "relied on: no commit, the checkpoint of version 7, the footer of 1 file"
    )
