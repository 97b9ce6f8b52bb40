"""A node that is lost while it is asked for its folders."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import TaskUnschedulableError

from jobs import fitting
from raylake.errors import DependencyUnreachable

HERE, LOST = ({"NodeID": one} for one in ("here", "lost"))


class Asked:
    """Nodes that are alive, look by look; who is asked for one that is gone gets an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: list[dict[str, Any]]) -> None:
        self.looks = list(looks)
        self.asked: list[dict[str, str]] = []
        monkeypatch.setattr(fitting, "_alive", lambda: self.looks.pop(0))
        monkeypatch.setattr(
            fitting, "_other_hosts", lambda nodes: {"b": "lost"} if LOST in nodes else {}
        )
        monkeypatch.setattr(fitting, "_without", self.without)

    def without(self, local: list[str], others: dict[str, str]) -> list[str]:
        self.asked.append(others)
        if others:
            raise TaskUnschedulableError("the node does not exist any more")
        return []


def test_one_that_is_gone_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, [HERE, LOST], [HERE], [HERE])
    assert fitting._unseeing(["lake"]) == []
    assert asked.asked == [{"b": "lost"}, {}]


def test_one_that_is_there_and_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, [HERE, LOST], [HERE, LOST])
    with pytest.raises(DependencyUnreachable, match="could not be asked for its folders"):
        fitting._unseeing(["lake"])
