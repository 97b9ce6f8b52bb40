"""An owner frozen in the middle of a commit, while another run takes its table over."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope
from tests.harness.successor import Successor

DATA = {"kind": "data"}


def frozen(scope: Scope) -> list[dict[str, Any]]:
    hit = scope.faults()
    return hit if hit and hit[-1]["action"] == "stop" else []


@pytest.mark.spec("A3", "B1")
@pytest.mark.parametrize(
    ("point", "match"),
    [
        pytest.param("owner.after_check", DATA, id="stale handle: between check and write"),
        pytest.param(
            "owner.before_commit",
            {},
            id="refreshed handle: before the check",
            marks=pytest.mark.long,
        ),
        pytest.param("owner.after_commit", DATA, id="written", marks=pytest.mark.long),
    ],
)
def test_failure_02_a_frozen_owner_that_wakes_up_is_fenced(
    scope: Scope, point: str, match: dict[str, str]
) -> None:
    """The successor has committed everything before the late one goes on."""
    scope.produce(800, DIRTY)
    scope.arm(point, "stop", match=match)
    job = scope.start()
    (fault,) = scope.run_until(lambda: frozen(scope), "the owner was frozen")
    successor = Successor(scope)
    assert successor.ingest() > 0
    newest = len(scope.commits())
    os.kill(fault["pid"], signal.SIGCONT)
    job.ends_with(6)
    assert scope.status()["error"]["code"] == "fenced"
    assert len(scope.commits()) == newest, "the late owner wrote on"
    successor.release()
    scope.drain()
    scope.audit()
    scope.verify("all")


@pytest.mark.spec("A3")
@pytest.mark.parametrize(
    "owner_dies",
    [
        pytest.param(False, id="idle until the end", marks=pytest.mark.long),
        pytest.param(True, id="owner killed", marks=pytest.mark.long),
    ],
)
def test_failure_02_a_table_that_another_run_had_meanwhile_is_not_taken_again(
    scope: Scope, owner_dies: bool
) -> None:
    """The other run has even left again: only a person takes a foreign epoch over."""
    scope.produce(200)
    job = scope.start()
    scope.until_caught_up()
    Successor(scope).table.release()
    if owner_dies:
        for pid in scope.pids("owner"):
            os.kill(pid, signal.SIGKILL)
    else:
        job.signal(signal.SIGTERM)
    job.ends_with(6)
    error = scope.status()["error"]
    assert error["code"] == "fenced"
    assert "run another-run of pipeline" in error["message"], "who took it"


@pytest.mark.long
@pytest.mark.spec("A3")
def test_failure_02_two_clusters_ingest_one_table_and_one_of_them_wins(
    make_scope: MakeScope,
) -> None:
    """The successor is a whole run on a cluster of its own, and ingests everything."""
    scope = make_scope()
    scope.produce(800, DIRTY)
    scope.arm("owner.after_check", "stop", match=DATA)
    # By default the frozen owner would be replaced before the other run is through.
    late = scope.start(RAYLAKE_SILENT_S="240")
    (fault,) = scope.run_until(lambda: frozen(scope), "the owner was frozen")
    shared, scope.cluster = scope.cluster, None
    scope.start("--available-now", "--take-over").ends_with(0)
    scope.cluster = shared
    os.kill(fault["pid"], signal.SIGCONT)
    late.ends_with(6)
    scope.audit()
    scope.verify("all")
