"""Unit tests touch no cluster, no network and no wall clock: whoever tries fails at that line.

Threads that were there before a test are not its own: Spark leaves some behind in its process.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import ray


@pytest.fixture(autouse=True)
def _no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    others = set(threading.enumerate()) - {threading.current_thread()}

    def refuse(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() in others:
                return real(*args, **kwargs)
            pytest.fail(f"a unit test called {what}; such a test belongs in tests/integration")

        return refused

    monkeypatch.setattr(ray, "init", refuse("ray.init", ray.init))
    monkeypatch.setattr(socket.socket, "__init__", refuse("socket.socket", socket.socket.__init__))
    monkeypatch.setattr(time, "sleep", refuse("time.sleep", time.sleep))
