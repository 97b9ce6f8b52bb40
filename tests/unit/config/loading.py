"""Shared by the tests of the pipeline file: load text, and read what an error says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from raylake.config import Loaded, load_bytes
from raylake.errors import ConfigError

SMALLEST = "pipeline: p\nlake: ./lake\nkafka: {bootstrap: 'localhost:9092'}\n"


def load_text(
    text: str | bytes,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    path: str = "p.yaml",
) -> Loaded:
    raw = text.encode() if isinstance(text, str) else text
    return load_bytes(raw, path=path, environ=environ or {}, overrides=overrides)


@dataclass(frozen=True)
class Refusal:
    text: str
    problems: list[dict[str, Any]]

    @property
    def one(self) -> dict[str, Any]:
        assert len(self.problems) == 1, self.text
        return self.problems[0]

    def at(self, loc: str) -> dict[str, Any]:
        found = [p for p in self.problems if p["loc"] == loc]
        assert len(found) == 1, f"{loc} in\n{self.text}"
        return found[0]


def refusal(text: str | bytes, **kwargs: Any) -> Refusal:
    with pytest.raises(ConfigError) as caught:
        load_text(text, **kwargs)
    assert caught.value.exit_code == 2
    return Refusal(str(caught.value), caught.value.context["problems"])


def bronze(body: str) -> str:
    """The smallest file with one table ``t`` whose keys are given in flow style."""
    return f"{SMALLEST}bronze:\n  t: {{{body}}}\n"
