"""A full and a read-only disk: nothing half-done, a message with the place, and it heals."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raylake.errors import DependencyUnreachable
from tests.integration.delta.scope import Scope


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, b"x" * 4096)
    finally:
        os.close(descriptor)


def test_a_full_disk_stops_the_commit_and_loses_nothing(small_disk: Path) -> None:
    scope = Scope(small_disk)
    owner = scope.owner()
    unit = scope.unit(owner, 0, 5)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        fill(ballast)
    with pytest.raises(DependencyUnreachable, match="could not be written") as commit:
        owner.commit([unit])
    with pytest.raises(DependencyUnreachable, match="No space left") as write:
        scope.unit(owner, 5, 10)
    assert str(scope.path) in str(commit.value)
    assert "free space" in write.value.hint
    ballast.unlink()
    assert len(list(scope.path.glob("part-*"))) == 1
    assert owner.commit([unit])[0].status == "committed"
    assert scope.offsets() == list(range(5))


def test_a_read_only_disk_stops_the_commit_and_loses_nothing(small_disk: Path) -> None:
    scope = Scope(small_disk)
    owner = scope.owner()
    unit = scope.unit(owner, 0, 5)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DependencyUnreachable, match="could not be written"):
        owner.commit([unit])
    with pytest.raises(DependencyUnreachable, match="Read-only"):
        scope.unit(owner, 5, 10)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert owner.commit([unit])[0].status == "committed"
