"""What does not fit a cluster is refused there, and says so as if nobody else were awake."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

import raylake
from raylake.client.progress import Silent
from raylake.client.run import Run, RunFailed
from raylake.errors import DependencyUnreachable
from tests.harness.cluster import another_node
from tests.harness.jobs_cluster import JobsCluster
from tests.integration.submitting.conftest import Runs, Write

WAIT_S = 300.0


def why_failed(run: Run) -> RunFailed:
    with pytest.raises(RunFailed) as told:
        run.wait("ended", WAIT_S, Silent())
    assert "Traceback" not in str(told.value)
    assert told.value.hint
    return told.value


@pytest.mark.spec("K1")
@pytest.mark.timeout(600)
def test_consumers_for_which_no_node_has_room_are_refused_before_anything_begins(
    cluster_runs: Runs, write: Write, tmp_path: Path
) -> None:
    name = f"p{uuid.uuid4().hex[:6]}"
    error = why_failed(cluster_runs.submit(write(name, "ingest: {consumers: 500}\n")))
    assert "500 consumers ask for a CPU each, and the cluster has 32" in str(error)
    assert "`ingest: {consumers: …}`" in error.hint
    assert not (tmp_path / "lake" / "bronze").exists()


@pytest.mark.spec("K1")
@pytest.mark.timeout(600)
def test_a_local_lake_is_refused_where_another_host_does_not_have_it(
    cluster_runs: Runs, jobs_cluster: JobsCluster, write: Write, tmp_path: Path
) -> None:
    if subprocess.run(["unshare", "-u", "-m", "true"], check=False).returncode:
        pytest.skip("a host of another name takes the right to make namespaces")
    name = f"p{uuid.uuid4().hex[:6]}"
    with another_node(jobs_cluster.live, 1, host=("elsewhere", tmp_path)):
        error = why_failed(cluster_runs.submit(write(name)))
    assert "elsewhere of the same cluster does not have it" in str(error)
    assert "s3://" in error.hint
    assert not (tmp_path / "lake" / "bronze").exists()


@pytest.mark.spec("K1")
@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:1", "nobody.invalid:6379"])
def test_an_address_at_which_nobody_listens_is_told_at_once(
    write: Write, tmp_path: Path, address: str
) -> None:
    with pytest.raises(DependencyUnreachable, match="no Ray cluster answers at ") as told:
        raylake.connect(tmp_path / "lake", address).submit(write("p"))
    assert "http://head:8265" in told.value.hint
