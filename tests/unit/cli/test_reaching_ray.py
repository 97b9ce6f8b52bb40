"""What it says when Ray cannot be reached, or does not come up."""

from __future__ import annotations

import pytest

from raylake.client.cluster import Reaching
from raylake.errors import DependencyUnreachable

SLOW = "The current node timed out during startup.\nMore of it."


@pytest.mark.parametrize("error", [Exception(SLOW), OSError(SLOW), TimeoutError(SLOW)])
def test_a_ray_that_does_not_come_up_is_a_dependency(error: Exception) -> None:
    with (
        pytest.raises(DependencyUnreachable, match="The current node timed out") as told,
        Reaching(None, OSError),
    ):
        raise error
    assert "More of it" not in told.value.message
    assert all(word in told.value.hint for word in ("memory", "doctor", "RAYLAKE_RAY_DIR"))


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with (
        pytest.raises(DependencyUnreachable, match=r"answers at 10.0.0.1:1: Exception") as told,
        Reaching("10.0.0.1:1"),
    ):
        raise Exception
    assert "RAY_ADDRESS" in told.value.hint


def test_our_own_mistakes_stay_what_they_are() -> None:
    with pytest.raises(TypeError), Reaching(None, OSError):
        raise TypeError("a wrong argument")
    with Reaching(None):
        pass
