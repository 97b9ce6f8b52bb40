"""Commands typed in this process, and what they answer as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from raylake.cli.main import main

Type = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def type_(capsys: pytest.CaptureFixture[str]) -> Type:
    """Types a command with ``-o json``; its exit code and its document, or the error's."""

    def typed(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = main([*arguments, "-o", "json"])
        said = capsys.readouterr()
        document = json.loads(said.out or said.err)
        return code, document.get("error") or document

    return typed
