"""Small file systems that can be filled, and made read-only, also for root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, place: Path, size: str) -> None:
        self.place = place
        self._ballast = place / "ballast"
        place.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if (
            os.geteuid() != 0
            or subprocess.run(command, capture_output=True, check=False).returncode
        ):
            place.rmdir()
            pytest.skip("this user cannot mount a small file system")

    def writable(self, *, on: bool) -> None:
        mode = "rw" if on else "ro"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.place)], check=True)

    def fill(self) -> None:
        """Write until nothing fits any more."""
        with self._ballast.open("wb", buffering=0) as out:
            try:
                while out.write(b"x" * 65536):
                    pass
            except OSError:
                return

    def leave(self, nbytes: int) -> None:
        """Of what is full so much is free again."""
        os.truncate(self._ballast, self._ballast.stat().st_size - nbytes)

    def free(self) -> None:
        self._ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], SmallDisk]]:
    """Mounts file systems of 16 MiB by name."""
    mounted: list[SmallDisk] = []

    def mount(name: str) -> SmallDisk:
        mounted.append(SmallDisk(tmp_path / name, "16m"))
        return mounted[-1]

    yield mount
    for disk in mounted:
        disk.close()
