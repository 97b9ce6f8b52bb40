"""How much of an answer each partition may take."""

from __future__ import annotations

import pytest

from raylake.kafka.port import FetchSettings

MIB = 2**20


@pytest.mark.parametrize(
    ("held_bytes", "partitions", "part_bytes"),
    [
        pytest.param(256 * MIB, 1, 4 * MIB, id="no more than the setting"),
        pytest.param(256 * MIB, 64, 4 * MIB, id="all together what may be held"),
        pytest.param(256 * MIB, 1000, MIB, id="small parts cost more"),
        pytest.param(512 * 1024, 4, 128 * 1024, id="a small buffer is shared"),
        pytest.param(512 * 1024, 100, 64 * 1024, id="an eighth of a small buffer"),
        pytest.param(3, 100, 1, id="never nothing"),
    ],
)
def test_what_may_be_held_is_shared_by_the_partitions(
    held_bytes: int, partitions: int, part_bytes: int
) -> None:
    assert FetchSettings(held_bytes=held_bytes).part_bytes(partitions) == part_bytes
