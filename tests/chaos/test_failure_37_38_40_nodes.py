"""Nodes that are lost or taken away, and full object stores, while records keep coming."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.harness import cluster as harness
from tests.harness.cluster import ROOT, LiveCluster, another_node, kill_tree
from tests.harness.producing import DIRTY
from tests.harness.scope import MakeScope, Scope
from tests.harness.waiting import until

CPUS = 2
WAIT_S = 300.0
GRACE_S = 600
FULL = "the stores are full"
# Neither into files nor beside them: the disk passes for full.
SPILLS_NOT = {
    "RAY_automatic_object_spilling_enabled": "0",
    "RAY_local_fs_capacity_threshold": "0.01",
}

FILL = f"""
import numpy as np, ray, signal, sys, time
from ray.exceptions import ObjectStoreFullError, OutOfDiskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

@ray.remote(num_cpus=0)
class Full:
    def fill(self):
        self.held, refused = [], 0
        for size in (8_000_000, 500_000):
            try:
                # Three times what it holds: one that goes on in files would take it all.
                for _ in range(56):
                    self.held.append(ray.put(np.ones(size, np.uint8)))
            except (ObjectStoreFullError, OutOfDiskError):
                refused += 1
        return refused

ray.init(log_to_driver=False)
# A node that an earlier test lost may not have been missed yet.
while len(alive := [one["NodeID"] for one in ray.nodes() if one["Alive"]]) > int(sys.argv[1]):
    time.sleep(0.5)
held = [Full.options(scheduling_strategy=On(one, soft=False)).remote() for one in alive]
assert min(ray.get([one.fill.remote() for one in held])) == 2
print("{FULL}", flush=True)
signal.pause()
"""


class Nodes:
    """Further nodes of a cluster, each with two CPUs."""

    def __init__(self, head: LiveCluster, stack: ExitStack) -> None:
        self._head = head
        self._stack = stack

    def add(self) -> psutil.Process:
        """One more; its raylet and its workers are below this process."""
        return self._stack.enter_context(another_node(self._head, CPUS, variables=SPILLS_NOT))

    def drain(self, node: psutil.Process) -> None:
        """As an autoscaler does it that is about to take a node away."""
        (raylet,) = [one for one in node.children(recursive=True) if one.name() == "raylet"]
        words = [word.partition("=") for word in raylet.cmdline()]
        (name,) = [value for key, _, value in words if key in ("--node-id", "--node_id")]
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--node-id", name]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken back"]
        command += ["--deadline-remaining-seconds", str(GRACE_S)]
        subprocess.run(command, env=environment(self._head), check=True, timeout=120)


def environment(head: LiveCluster) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return {**inherited, **head.environment, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def head() -> Iterator[LiveCluster]:
    """A head without CPUs: consumers are on other nodes. Nothing is spilled."""
    folder = Path(tempfile.mkdtemp(prefix="rn-"))
    live = harness.start(folder / "r", "--num-cpus=0", variables=SPILLS_NOT)
    yield live
    harness.end(live)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nodes(head: LiveCluster) -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(head, stack)


def consumers_on(node: psutil.Process, scope: Scope) -> list[int]:
    """The pids of a run's consumers below a node."""
    below = {one.pid for one in node.children(recursive=True)}
    return [pid for pid in scope.pids("consumer") if pid in below]


def under_way(scope: Scope, more: int) -> None:
    """Wait until so many records more are committed."""
    before = sum(scope.ends_in_log().values())

    def enough() -> bool:
        return sum(scope.ends_in_log().values()) >= before + more

    scope.run_until(enough, "commits", WAIT_S)


def holder(nodes: list[psutil.Process], scope: Scope) -> tuple[psutil.Process, psutil.Process]:
    """The node that has most consumers, and the other one."""
    most, least = sorted(nodes, key=lambda node: -len(consumers_on(node, scope)))
    assert consumers_on(most, scope)
    return most, least


@pytest.mark.spec("A3", "B1")
@pytest.mark.parametrize("what", ["node", pytest.param("raylet", marks=pytest.mark.long)])
def test_failure_37_a_node_lost_under_load_is_gone_on_without(
    make_scope: MakeScope, head: LiveCluster, nodes: Nodes, what: str
) -> None:
    both = [nodes.add(), nodes.add()]
    scope = make_scope(cluster=head)
    scope.pipeline(ingest={"consumers": 2})
    job = scope.start()
    with scope.load(DIRTY):
        under_way(scope, 400)
        lost, other = holder(both, scope)
        if what == "node":
            kill_tree(lost)
        else:
            (raylet,) = [one for one in lost.children(recursive=True) if one.name() == "raylet"]
            raylet.kill()
        scope.hit(f"SIGKILL of a {what}")
        scope.run_until(
            lambda: len(consumers_on(other, scope)) == 2, "both are on the other node", WAIT_S
        )
        under_way(scope, 400)
    scope.until_caught_up(WAIT_S)
    job.stop()
    scope.audit()
    scope.verify("all")


@pytest.mark.long
@pytest.mark.spec("A8", "A11")
def test_failure_40_a_node_that_an_autoscaler_takes_is_left_before_it_goes(
    make_scope: MakeScope, head: LiveCluster, nodes: Nodes
) -> None:
    """Consumers hand over what they have and release it; others read on elsewhere."""
    both = [nodes.add(), nodes.add()]
    scope = make_scope(cluster=head)
    scope.pipeline(ingest={"consumers": 2})
    job = scope.start()
    with scope.load(DIRTY):
        under_way(scope, 400)
        going, other = holder(both, scope)
        nodes.drain(going)
        scope.hit("drain of a node")
        scope.run_until(
            lambda: len(consumers_on(other, scope)) == 2, "all are on the other node", WAIT_S
        )
        scope.run_until(lambda: not consumers_on(going, scope), "none is on this one", WAIT_S)
        assert scope.status()["restarts"].get("consumer", 0) == 0, "one was lost"
        kill_tree(going)
        under_way(scope, 400)
    scope.until_caught_up(WAIT_S)
    job.stop()
    scope.audit()
    scope.verify("all")


def _with_owner(both: list[psutil.Process], scope: Scope) -> psutil.Process | None:
    """The node that a run's owner is on; None: neither of these."""
    owners = set(scope.pids("owner"))
    for node in both:
        if owners & {one.pid for one in node.children(recursive=True)}:
            return node
    return None


@pytest.mark.long
@pytest.mark.spec("A8", "A11")
def test_failure_40_an_owner_leaves_a_node_before_it_goes(
    make_scope: MakeScope, head: LiveCluster, nodes: Nodes
) -> None:
    """It releases its table between commits, and another one attaches it elsewhere."""
    both = [nodes.add(), nodes.add()]
    scope = make_scope(cluster=head)
    scope.pipeline(ingest={"consumers": 2})
    job = scope.start()
    with scope.load(DIRTY):
        under_way(scope, 400)
        # Ray places owners by chance, on the head, too.
        while (going := _with_owner(both, scope)) is None:
            scope.kill("owner")
            under_way(scope, 400)
        before, lost = scope.pids("owner"), scope.status()["restarts"].get("owner", 0)
        nodes.drain(going)
        scope.hit("drain of a node")
        scope.run_until(
            lambda: scope.pids("owner") and _with_owner([going], scope) is None,
            "the owner is elsewhere",
            WAIT_S,
        )
        under_way(scope, 400)
        assert scope.pids("owner") != before
        assert scope.status()["restarts"].get("owner", 0) == lost, "it was lost"
        kinds = [one["kind"] for _, one in scope.commits()]
        assert "release" in kinds, kinds
        scope.run_until(lambda: not consumers_on(going, scope), "nobody is there", WAIT_S)
        kill_tree(going)
        under_way(scope, 400)
    scope.until_caught_up(WAIT_S)
    job.stop()
    scope.audit()
    scope.verify("all")


@contextmanager
def full_stores(head: LiveCluster, nodes: int, log: Path) -> Iterator[None]:
    """Somebody else's objects fill the object stores of so many nodes until the block ends."""
    with log.open("wb") as out:
        filling = subprocess.Popen(
            [sys.executable, "-c", FILL, str(nodes)],
            env=environment(head),
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: filling.poll() is not None or FULL in log.read_text(), "full stores", WAIT_S)
        assert FULL in log.read_text(), log.read_text()[-3000:]
        yield
    finally:
        filling.kill()
        filling.wait()


@pytest.mark.long
@pytest.mark.spec("A3", "A8")
def test_failure_38_full_object_stores_hold_nothing_up(
    make_scope: MakeScope, head: LiveCluster, nodes: Nodes, tmp_path: Path
) -> None:
    nodes.add()
    scope = make_scope(cluster=head)
    scope.pipeline(ingest={"consumers": 2})
    with full_stores(head, 2, tmp_path / "fill.log"):
        job = scope.start()
        with scope.load(DIRTY):
            under_way(scope, 400)
            # New processes begin with full stores, too.
            scope.kill("consumer")
            scope.kill("owner")
            under_way(scope, 800)
        scope.hit("full object stores")
        scope.until_caught_up(WAIT_S)
        job.stop()
    scope.audit()
    scope.verify("all")
