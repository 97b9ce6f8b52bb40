"""What a unit test may not do fails, whichever way it is tried."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
import ray

from raylake.clock import SystemClock


@ray.remote
def _task() -> int:
    return 1


@pytest.mark.parametrize(
    "call",
    [
        # As tests call it: what stands there now would look for a cluster.
        lambda: ray.init(),
        _task.remote,
        lambda: socket.create_connection(("127.0.0.1", 9), timeout=0.1),
        lambda: socket.socket(socket.AF_UNIX),
        socket.socketpair,
        lambda: time.sleep(0),
        lambda: SystemClock().sleep(0.001),
    ],
    ids=["ray.init", "first task", "connect", "unix socket", "socket pair", "sleep", "clock"],
)
def test_the_outside_world_is_closed(call: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="belongs in tests/integration"):
        call()
    assert not ray.is_initialized()
