"""A consumer that cannot obey says that it failed: nobody reads the answer to a grant."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from actors.partition_consumer import PartitionConsumer
from actors.process import ActorProcess
from raylake.errors import RayLakeError, Refused
from raylake.ingest.in_order import InOrder
from raylake.ingest.ports import OwnerLost
from raylake.ingest.reports import ConsumerReport, Granted


class FailingLoop:
    """A loop that can do nothing that it is told."""

    def __init__(self, error: RayLakeError) -> None:
        self.error = error
        self.closed = threading.Event()

    def grant(self, _granted: Granted) -> None:
        raise self.error

    def report(self) -> ConsumerReport:
        return ConsumerReport("consumer-0")

    def step(self) -> None:
        self.closed.wait(0.01)

    def close(self) -> None:
        self.closed.set()


def consumer(loop: FailingLoop) -> Any:
    """The actor's class in this process, with another loop."""
    actor_class: Any = PartitionConsumer
    inner = actor_class.__ray_metadata__.modified_class
    made = inner.__new__(inner)
    made._name, made._loop, made._process = "consumer-0", loop, ActorProcess.of_this()
    made._commands, made._failure, made._stopping = queue.SimpleQueue(), None, False
    made._in_order = InOrder()
    list(made._in_order.begin())
    made._thread = threading.Thread(target=made._run, daemon=True)
    made._thread.start()
    return made


@pytest.mark.parametrize("error", [OwnerLost("the owner is gone"), Refused("not now")])
def test_a_grant_that_fails_is_the_failure_of_the_consumer(error: RayLakeError) -> None:
    loop = FailingLoop(error)
    actor = consumer(loop)
    assert actor.report(0.0).failure is None
    with pytest.raises(type(error)):
        actor.command(0, "grant", Granted(1, {}))
    assert loop.closed.wait(10)
    assert actor.report(0.0).failure is error
