"""Consumers come while much is unread and go when all is read; partitions change hands meanwhile.

A small buffer keeps a consumer to what it may hold between two commits, so that one alone is
behind on any machine.
"""

from __future__ import annotations

import signal
from typing import Any

import psutil
import pytest

from tests.harness.autoscaling import growing_cluster, nodes
from tests.harness.producing import DIRTY
from tests.harness.scope import TABLE, MakeScope, Scope

PARTITIONS = 4
RECORDS = 24_000
SILENT_S = 6.0


def _scaled(make_scope: MakeScope, most: int = 2, **more: Any) -> Scope:
    scope = make_scope(partitions=PARTITIONS, **more)
    consumers = {"min": 1, "max": most, "lag": "2s", "down_after": "6s"}
    scope.pipeline(
        {"commit_interval": "1s", "max_batch_bytes": "32KiB"},
        ingest={"consumers": consumers, "buffer": "128KiB"},
    )
    return scope


def _scaling(scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = scope.status().get("scaling") or {}
    return found


def _readers(scope: Scope) -> dict[str, set[str]]:
    """The partitions of each consumer that has some, by the status document."""
    shown = scope.status().get("consumers", {})
    return {name: set(one["partitions"]) for name, one in shown.items() if one["partitions"]}


def _end(scope: Scope) -> None:
    """Drain, and hold the account to the producers' record."""
    scope.until_caught_up(240)
    scope.jobs[-1].signal(signal.SIGTERM)
    scope.jobs[-1].ends_with(0)
    scope.audit()
    scope.verify("data")
    assert scope.ranges_in_log(TABLE), "nothing was committed"


@pytest.mark.spec("A8")
def test_consumers_come_with_the_lag_and_go_with_it(make_scope: MakeScope) -> None:
    """Partitions move to the one that comes and back, and every record is there once."""
    scope = _scaled(make_scope)
    scope.produce(RECORDS, DIRTY)
    scope.start()
    scope.run_until(lambda: len(_readers(scope)) == 2, "a second consumer reads", 180)
    found, readers = _scaling(scope), _readers(scope)
    assert found["wanted"] == 2
    assert found["why"].startswith("lag "), found
    assert found["why"].endswith(" partitions: 1 -> 2 consumers"), found
    assert sorted(len(mine) for mine in readers.values()) == [2, 2]
    first = set.union(*readers.values())
    assert len(first) == PARTITIONS, "a partition has two readers, or none"
    scope.until_caught_up(240)
    scope.run_until(lambda: len(_readers(scope)) == 1, "one consumer has left", 120)
    assert set(_readers(scope)) == {"consumer-0"}
    assert _scaling(scope)["why"].endswith(": 2 -> 1 consumers")
    scope.produce(400, DIRTY)
    _end(scope)
    refused = scope.status()["tables"][f"bronze.{TABLE}"]["units_refused"]
    assert refused == 0, "a hand-over makes nobody read anything again"
    assert scope.status()["restarts"]["consumer"] == 0


@pytest.mark.long
@pytest.mark.spec("A8")
@pytest.mark.parametrize(
    ("point", "consumer", "action"),
    [
        pytest.param("consumer.releasing", "consumer-0", "kill", id="A while it hands over"),
        pytest.param("consumer.released", "consumer-0", "kill", id="A before it tells"),
        pytest.param("consumer.granted", "consumer-1", "kill", id="B as it begins"),
        pytest.param("consumer.releasing", "consumer-0", "stop", id="A freezes"),
    ],
)
def test_a_hand_over_survives_the_loss_of_either_side(
    make_scope: MakeScope, point: str, consumer: str, action: str
) -> None:
    """Whoever is lost in the middle is replaced, and what it held is read from the commit on."""
    scope = _scaled(make_scope)
    scope.produce(RECORDS, DIRTY)
    fired = scope.arm(point, action, match={"consumer": consumer})
    scope.start(RAYLAKE_SILENT_S=str(SILENT_S))
    scope.run_until(fired.exists, f"{consumer} comes to {point}", 180)
    scope.run_until(lambda: scope.status()["restarts"]["consumer"] >= 1, "it is replaced", 120)
    if action == "stop":
        assert not any(psutil.pid_exists(fault["pid"]) for fault in scope.faults())
    scope.run_until(
        lambda: set().union(*_readers(scope).values()) == set(scope.ends), "all are read", 180
    )
    _end(scope)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.spec("A8")
def test_an_autoscaling_cluster_gets_nodes_for_the_consumers_and_loses_them(
    make_scope: MakeScope,
) -> None:
    """The head has room for one consumer: the others' nodes come for them, and go after them."""
    with growing_cluster(head_cpus=1, node_cpus=1, most=3) as cluster:
        (head,) = nodes(cluster)
        scope = _scaled(make_scope, most=3, cluster=cluster)
        scope.produce(2 * RECORDS, DIRTY)
        scope.start()
        scope.run_until(lambda: len(_readers(scope)) > 1, "a further consumer reads", 400)
        assert len(nodes(cluster)) > 1, "a node came for it"
        scope.until_caught_up(240)
        scope.run_until(lambda: len(_readers(scope)) == 1, "one consumer is left", 120)
        scope.run_until(lambda: nodes(cluster) == [head], "the nodes have left", 300)
        scope.produce(400, DIRTY)
        _end(scope)
