"""The real broker of the tests: one for all workers and runs that are under way at once.

The first user starts the instance ``tests``; the last one to leave stops it and wipes its data.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from raylake.kafka.connection import is_transient
from raylake.kafka.dev import DevBroker
from tests.harness.shared import shared
from tests.harness.waiting import until

TIMEOUT_S = 120.0
"""Other tests' clusters and JVMs start on the same two cores."""


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
        until(lambda: self._created(new), f"topic {name} is created", TIMEOUT_S)
        self.admin.wait_for_topics([name], timeout_ms=TIMEOUT_S * 1000)

    def _created(self, topic: NewTopic) -> bool:
        """Whether it is there now: a busy broker may be late, or have closed an idle connection."""
        try:
            self.admin.create_topics([topic])
        except TopicAlreadyExistsError:
            return True
        except KafkaError as error:
            if not is_transient(error):
                raise
            self.close()
            return False
        return True

    def producer(self, **settings: Any) -> KafkaProducer:
        """A producer; the caller closes it."""
        return KafkaProducer(bootstrap_servers=self.bootstrap, **settings)

    def close(self) -> None:
        admin = self.__dict__.pop("admin", None)
        if admin is not None:
            admin.close()


@pytest.fixture(scope="session")
def broker() -> Iterator[LiveBroker]:
    """The broker that all integration tests share."""
    dev = DevBroker(instance="tests")
    with shared("tests", lambda: dev.up(TIMEOUT_S), lambda _: bool(dev.down(wipe=True))) as info:
        live = LiveBroker(info.bootstrap, dev)
        try:
            yield live
        finally:
            live.close()
