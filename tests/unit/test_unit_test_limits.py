"""What a unit test may not do fails, whichever way it is tried."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

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


class Sleeper(threading.Thread):
    """A thread that sleeps when it is let, and tells what came of it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._let = threading.Event()
        self._refused = False

    def run(self) -> None:
        self._let.wait()
        try:
            time.sleep(0)
        except pytest.fail.Exception:
            self._refused = True

    def refused(self) -> bool:
        self._let.set()
        self.join()
        return self._refused


@pytest.fixture(scope="module")
def left_behind() -> Iterator[Sleeper]:
    """A thread that some other test has begun."""
    thread = Sleeper()
    thread.start()
    yield thread
    thread.refused()


def test_a_thread_of_the_test_s_own_is_held_to_it_too() -> None:
    mine = Sleeper()
    mine.start()
    assert mine.refused()


def test_what_another_test_has_left_behind_goes_on(left_behind: Sleeper) -> None:
    assert not left_behind.refused()
