"""A cluster's head that does not answer for a while, and one that is gone."""

from __future__ import annotations

import pytest

from jobs.head import RAYS_PATIENCE_ENV, Head
from raylake.clock import ManualClock
from raylake.errors import DependencyUnreachable


def test_a_head_that_comes_back_in_time_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAYS_PATIENCE_ENV, "40")
    clock, there = ManualClock(), {"head:6379"}
    head = Head("head:6379", clock, there.__contains__)
    assert head.check()
    there.clear()
    for _ in range(2):
        clock.sleep(14.0)
        assert not head.check()
    there.add("head:6379")
    assert head.check()
    there.clear()
    clock.sleep(29.0)
    assert not head.check()
    clock.sleep(1.0)
    with pytest.raises(
        DependencyUnreachable, match=r"(?s)\(GCS\) at head:6379 .*--take-over"
    ) as lost:
        head.check()
    assert lost.value.exit_code == 4
