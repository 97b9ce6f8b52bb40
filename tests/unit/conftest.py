"""Unit tests touch no cluster, no network and no wall clock: whoever tries fails at that line."""

from __future__ import annotations

import socket
import time
from typing import Any, NoReturn

import pytest
import ray


@pytest.fixture(autouse=True)
def _no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: str) -> Any:
        def refused(*_args: object, **_kwargs: object) -> NoReturn:
            pytest.fail(f"a unit test called {what}; such a test belongs in tests/integration")

        return refused

    monkeypatch.setattr(ray, "init", refuse("ray.init"))
    monkeypatch.setattr(socket.socket, "__init__", refuse("socket.socket"))
    monkeypatch.setattr(time, "sleep", refuse("time.sleep"))
