"""A start of an embedded cluster that fails ends what it has started, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psutil
import pytest

from raylake.client.cluster import Reaching
from raylake.errors import DependencyUnreachable
from tests.harness.cluster import kill_tree


class Pair:
    """A process of this one, and one below it."""

    def __init__(self) -> None:
        command = ["sh", "-c", "sleep 120 & echo $!; wait"]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.child.stdout is not None
        self.below = psutil.Process(int(self.child.stdout.readline()))

    def lives(self) -> tuple[bool, bool]:
        below = self.below.is_running() and self.below.status() != psutil.STATUS_ZOMBIE
        return self.child.poll() is None, below

    def end(self) -> None:
        kill_tree(psutil.Process(self.child.pid))
        self.child.wait()


@pytest.fixture
def there() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.end()


@pytest.mark.spec("K1")
def test_what_was_there_before_goes_on(there: Pair) -> None:
    reaching = Reaching(None, OSError)
    new = Pair()
    error = OSError("it is too slow")
    with pytest.raises(DependencyUnreachable, match="Ray did not come up"):
        reaching.__exit__(OSError, error, None)
    new.child.wait(10)
    psutil.wait_procs([new.below], 10)
    assert new.lives() == (False, False)
    assert there.lives() == (True, True)
