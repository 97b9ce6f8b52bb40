"""The head node is lost with all that ran there: another cluster goes on from table and topic."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness import cluster as harness
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope


@pytest.fixture
def folder() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    made = Path(tempfile.mkdtemp(prefix="rh-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.spec("A3")
def test_failure_36_after_the_head_is_lost_a_new_cluster_rebuilds_all_from_table_and_topic(
    make_scope: MakeScope, folder: Path
) -> None:
    first = harness.start(folder / "1")
    try:
        scope = make_scope(cluster=first)
        job = scope.start()
        with scope.load(DIRTY):
            scope.run_until(lambda: any(sum(t.values()) for t in scope.committed()), "a commit")
            head = psutil.Process(first.pid)
            # The job's driver ran on that node, too.
            for process in [head, *head.children(recursive=True), psutil.Process(job.process.pid)]:
                process.kill()
            job.wait()
            scope.hit("SIGKILL of the head node")
    finally:
        harness.end(first)
    assert sum(scope.ends_in_log().values()) > 0
    scope.produce(200, DIRTY)
    second = harness.start(folder / "2")
    try:
        scope.cluster = second
        scope.drain("--take-over")
        scope.audit()
        scope.verify("all")
    finally:
        harness.end(second)
    assert not (folder / "1").exists(), "nothing of the first cluster was used"
