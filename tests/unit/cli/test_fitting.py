"""A pipeline that a cluster cannot run is refused before it begins."""

from __future__ import annotations

import pytest

from raylake import __version__
from raylake.client.fitting import (
    LocalPath,
    NoSuchResources,
    refuse_local_paths,
    refuse_missing_cpus,
    refuse_other_client,
)
from raylake.client.submission import CLIENT_VERSION_ENV
from raylake.errors import WrongVersion


def test_another_version_of_the_client_is_named() -> None:
    refuse_other_client({})
    refuse_other_client({CLIENT_VERSION_ENV: __version__})
    with pytest.raises(WrongVersion, match=r"99\.0 submitted this job") as told:
        refuse_other_client({CLIENT_VERSION_ENV: "99.0"})
    assert f"raylake=={__version__}" in told.value.hint


@pytest.mark.parametrize(
    ("consumers", "nodes", "growth", "fixed", "fits"),
    [
        (4, [4.0], None, True, True),
        (5, [4.0], None, True, False),
        (5, [2.0, 3.0], None, True, True),
        (2, [1.5, 0.5], None, True, False),
        (5, [0.0], 8.0, True, True),
        (9, [0.0], 8.0, True, False),
        (4, [1.0], None, False, True),
        (4, [0.0], None, False, False),
        (0, [0.0], None, True, True),
    ],
)
def test_each_consumer_needs_a_cpu_that_some_node_has(
    consumers: int, nodes: list[float], growth: float | None, fixed: bool, fits: bool
) -> None:
    if fits:
        refuse_missing_cpus(consumers, nodes, growth, fixed=fixed)
        return
    with pytest.raises(NoSuchResources, match="ask for a CPU each") as told:
        refuse_missing_cpus(consumers, nodes, growth, fixed=fixed)
    assert "consumers" in told.value.hint


def test_a_folder_that_another_host_does_not_have_is_refused() -> None:
    refuse_local_paths(["/lake"], [])
    with pytest.raises(LocalPath, match="/lake: a folder of this machine, and worker-2") as told:
        refuse_local_paths(["/lake"], ["worker-2"])
    assert "s3://" in told.value.hint
