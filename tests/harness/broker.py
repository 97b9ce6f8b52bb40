"""The real broker of the tests: one for all workers and runs that are under way at once.

The first user starts the instance ``tests``; the last one to leave stops it and wipes its data.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import (
    CoordinatorNotAvailableError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

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

    def commit_group(self, topic: str, offset: int) -> str:
        """A consumer group that has read partition 0 of a topic up to an offset."""
        name = f"theirs-{uuid.uuid4().hex[:6]}"
        at = {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}

        def committed() -> bool:
            # A new broker makes and loads the coordinator's topic when it is first asked for.
            try:
                outcomes = self.admin.alter_group_offsets(name, at).values()
            except CoordinatorNotAvailableError:
                return False
            return all(outcome is NoError for outcome in outcomes)

        until(committed, f"the coordinator of group {name}", TIMEOUT_S)
        return name

    def create_named_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        # A broker drops what is older than its retention, and tests write records of any day.
        configs = {"retention.ms": "-1", **(config or {})}
        new = NewTopic(name, partitions, 1, topic_configs=configs)
        failed: list[KafkaError] = []

        def created() -> bool:
            try:
                self.admin.create_topics([new])
            except TopicAlreadyExistsError:
                # An earlier try may have got through.
                if not failed:
                    raise
            except KafkaError as error:
                # A busy broker is late, or has closed an idle connection.
                if not is_transient(error):
                    raise
                failed.append(error)
                self.close()
                return False
            return True

        until(created, f"topic {name} is created", TIMEOUT_S)
        self.admin.wait_for_topics([name], timeout_ms=TIMEOUT_S * 1000)

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
