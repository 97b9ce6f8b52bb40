from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.verify.lake import Lake, Span


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two partitions, five commits: rows, dead letters and absent offsets in each."""
    found = Lake(tmp_path)
    found.admit(Span(0, 0, 0), Span(1, 500, 500))
    for number in range(5):
        zero, one = number * 100, 500 + number * 40
        found.ingest(
            Span(0, zero, zero + 100, frozenset({zero + 7, zero + 8}), frozenset({zero + 99})),
            Span(1, one, one + 40, frozenset({one})),
        )
    return found
