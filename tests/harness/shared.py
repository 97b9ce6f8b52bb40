"""One broker, one cluster … for all workers and runs of the tests that are under way at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from raylake.kafka.artifacts import cache_folder, file_lock

T = TypeVar("T")


@contextmanager
def shared(name: str, begin: Callable[[], T], end: Callable[[T], None]) -> Iterator[T]:
    """The first user begins it, the last one to leave ends it; both while all others wait.

    Args:
        name: Its name below the cache folder.
        begin: Starts it, or finds the one that runs.
        end: Ends it.
    """
    home = cache_folder() / "dev"
    users, lock = home / f"{name}.users", home / f"{name}.users.lock"
    mine = users / f"{os.getpid()}.pid"
    with file_lock(lock):
        users.mkdir(parents=True, exist_ok=True)
        there = begin()
        # Only who has it is a user: one whose start failed must not keep it from being ended.
        mine.write_text(str(psutil.Process().create_time()))
    try:
        yield there
    finally:
        with file_lock(lock):
            mine.unlink(missing_ok=True)
            if not any(_lives(user) for user in users.glob("*.pid")):
                end(there)


def _lives(user: Path) -> bool:
    """Whether a user's process is there, and not another one with its number."""
    try:
        created_s = psutil.Process(int(user.stem)).create_time()
        lives = abs(created_s - float(user.read_text() or created_s)) < 1.0
    except psutil.NoSuchProcess:
        lives = False
    if not lives:
        user.unlink(missing_ok=True)
    return lives
