"""A user's folders named ``actors`` and ``jobs`` do not hide ours from a cluster's workers."""

from __future__ import annotations

import pytest

from tests.harness.producing import DIRTY
from tests.harness.scope import Scope


@pytest.mark.long
@pytest.mark.spec("B1")
def test_a_job_that_joins_a_cluster_runs_in_a_folder_with_actors_and_jobs_of_its_own(
    scope: Scope,
) -> None:
    assert scope.cluster is not None
    for name in ("actors", "jobs"):
        # The current folder of the job.
        (scope.folder / name).mkdir()
        (scope.folder / name / "__init__.py").write_text("raise ImportError('the wrong one')\n")
    scope.produce(200, DIRTY)
    scope.drain()
    scope.audit()
