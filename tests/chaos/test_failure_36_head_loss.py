"""The head, or its control service alone, is lost: another cluster goes on from table and topic."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness import cluster as harness
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope

RAY_GIVES_UP = {"RAY_gcs_rpc_server_reconnect_timeout_s": "24"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    made = Path(tempfile.mkdtemp(prefix="rh-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def goes_on(scope: Scope, folder: Path) -> None:
    """A new cluster takes over, also what came meanwhile, and the account is exact."""
    scope.produce(200, DIRTY)
    second = harness.start(folder)
    try:
        scope.cluster = second
        scope.drain("--take-over")
        scope.audit()
        scope.verify("all")
    finally:
        harness.end(second)


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
    goes_on(scope, folder / "2")
    assert not (folder / "1").exists(), "nothing of the first cluster was used"


@pytest.mark.long
@pytest.mark.spec("A3")
@pytest.mark.parametrize("noticed", [True, False])
def test_failure_36_without_the_control_service_the_run_ends_with_a_word_and_another_goes_on(
    make_scope: MakeScope, folder: Path, noticed: bool
) -> None:
    """`ray start --block` notices and ends the head; else all goes on until Ray gives up."""
    first = harness.start(folder / "1", variables=RAY_GIVES_UP)
    starter = psutil.Process(first.pid)
    try:
        scope = make_scope(cluster=first)
        job = scope.start(**RAY_GIVES_UP)
        with scope.load(DIRTY):
            scope.run_until(lambda: any(sum(t.values()) for t in scope.committed()), "a commit")
            if not noticed:
                starter.suspend()
            below = starter.children(recursive=True)
            (service,) = [one for one in below if one.name() == "gcs_server"]
            service.kill()
            scope.hit("SIGKILL of the control service")
            job.ends_with(4)
    finally:
        starter.resume()
        harness.end(first)
    assert "the head of the Ray cluster is gone" in job.said, job.said[-3000:]
    assert "--take-over" in job.said
    goes_on(scope, folder / "2")
