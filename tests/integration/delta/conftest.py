"""The scope of the tests on real Delta tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.delta.scope import Scope


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    return Scope(tmp_path)
