"""The real broker of the tests: one for all workers and runs that are under way at once.

The first user starts the instance ``tests``; the last one to leave stops it and wipes its data.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from raylake.kafka.artifacts import cache_folder, file_lock
from raylake.kafka.dev import DevBroker


class LiveBroker:
    """A broker that runs, and the few things that a test asks of it."""

    def __init__(self, bootstrap: str, dev: DevBroker) -> None:
        self.bootstrap = bootstrap
        self.dev = dev

    @cached_property
    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def create_topic(
        self, prefix: str = "t", partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """A new topic under a name that no other test has."""
        name = f"{prefix}-{uuid.uuid4().hex[:10]}"
        self.create_named_topic(name, partitions, config)
        return name

    def create_named_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(name, partitions, 1, topic_configs=dict(config or {}))
        self.admin.create_topics([new])
        self.admin.wait_for_topics([name])

    def producer(self, **settings: Any) -> KafkaProducer:
        """A producer; the caller closes it."""
        return KafkaProducer(bootstrap_servers=self.bootstrap, **settings)

    def close(self) -> None:
        if "admin" in self.__dict__:
            self.admin.close()


def _live_users(folder: Path) -> list[Path]:
    users = []
    for path in folder.glob("*.pid"):
        if psutil.pid_exists(int(path.stem)):
            users.append(path)
        else:
            path.unlink(missing_ok=True)
    return users


@pytest.fixture(scope="session")
def broker() -> Iterator[LiveBroker]:
    """The broker that all integration tests share."""
    dev = DevBroker(instance="tests")
    users = cache_folder() / "dev" / "tests.users"
    users.mkdir(parents=True, exist_ok=True)
    lock = cache_folder() / "dev" / "tests.users.lock"
    mine = users / f"{os.getpid()}.pid"
    with file_lock(lock):
        mine.touch()
        info = dev.up()
    live = LiveBroker(info.bootstrap, dev)
    try:
        yield live
    finally:
        live.close()
        with file_lock(lock):
            mine.unlink(missing_ok=True)
            if not _live_users(users):
                dev.down(wipe=True)
