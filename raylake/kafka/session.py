"""kafka-python's consumer as a fetcher holds it: opened when needed, dropped on errors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from raylake.errors import ConfigError
from raylake.kafka.bounded import BoundedFetcher, RecordForm
from raylake.kafka.connection import Connection
from raylake.kafka.hooks import refuse_other_versions
from raylake.kafka.port import FetchSettings, Position
from raylake.kafka.transport import direct_client

_MIN_BOOTSTRAP_S = 0.5
_MAX_ANSWER_BYTES = 2**31 - 1


class PollSession:
    """One ``KafkaConsumer`` with the bounded fetcher in it, or none.

    While it is not open nothing is known and nothing has an effect: positions, and which
    partitions stand still, are the caller's and are given again after :meth:`open`.

    Args:
        connection: The cluster.
        settings: Bounds.
        form: What records become.

    Raises:
        Refused: kafka-python is of another version than those whose insides are known.
    """

    def __init__(self, connection: Connection, settings: FetchSettings, form: RecordForm) -> None:
        refuse_other_versions()
        self._connection = connection
        self._settings = settings
        self._form = form
        self._consumer: KafkaConsumer | None = None
        self._fetcher: BoundedFetcher | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a consumer."""
        return self._consumer is not None

    def open(self, timeout_s: float) -> None:
        """Make the consumer; raises what kafka-python raises when no broker answers.

        Args:
            timeout_s: The caller's budget, in seconds.
        """
        consumer = KafkaConsumer(**self._consumer_settings(timeout_s))
        self._fetcher = BoundedFetcher(
            self._form,
            consumer._client,  # noqa: SLF001
            consumer._subscription,  # noqa: SLF001
            **consumer.config,
        )
        consumer._fetcher = self._fetcher  # noqa: SLF001
        self._consumer = consumer

    def drop(self) -> None:
        """Close the consumer; what was fetched and not delivered is gone."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=1000)
        self._consumer = self._fetcher = None

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read exactly these; those that were read before keep what is in line."""
        if self._consumer is not None and self._fetcher is not None:
            self._consumer.assign(partitions)
            self._fetcher.bound_parts(self._settings.part_bytes(len(partitions)))

    def seek(self, tp: TopicPartition, position: Position) -> None:
        """Continue elsewhere, with the leader epoch."""
        if self._fetcher is not None:
            at = OffsetAndMetadata(position.offset, "", position.leader_epoch)
            self._fetcher.seek(tp, at)

    def hold(self, tp: TopicPartition, *, still: bool) -> None:
        """Let a partition stand still, or go on."""
        if self._consumer is not None:
            (self._consumer.pause if still else self._consumer.resume)(tp)

    def poll(self, until_s: float) -> Mapping[TopicPartition, list[Any]]:
        """What was taken of what arrived, within the bounds; raises kafka-python's errors.

        Args:
            until_s: Monotonic time at which to stop waiting.
        """
        if self._consumer is None or self._fetcher is None:
            return {}
        self._fetcher.budget.left_bytes = self._settings.max_bytes
        left_s = max(0.0, until_s - time.monotonic())
        try:
            polled: Mapping[TopicPartition, list[Any]] = self._consumer.poll(
                timeout_ms=int(left_s * 1000), max_records=self._settings.max_records
            )
        except ConfigError:
            # A secret that cannot be read now: kafka-python would keep the error for ever.
            self.drop()
            raise
        return polled

    def reached(self) -> Mapping[TopicPartition, Any]:
        """Where each assigned partition stands now, as far as that is known."""
        return {} if self._fetcher is None else self._fetcher.positions()

    def answered_s(self, tp: TopicPartition) -> float:
        """Monotonic time at which the partition's broker last answered, 0 for never."""
        return 0.0 if self._fetcher is None else self._fetcher.answered_s(tp)

    def topic_id(self, topic: str) -> str | None:
        """The topic's id in the latest metadata."""
        return None if self._fetcher is None else self._fetcher.topic_id(topic)

    def met_unknown(self) -> bool:
        """Whether a broker did not know a partition since this was last asked."""
        if self._fetcher is None or not self._fetcher.unknown:
            return False
        self._fetcher.unknown.clear()
        return True

    def advertised(self) -> list[tuple[str, int]]:
        """The addresses of the brokers in the latest metadata."""
        return [] if self._fetcher is None else self._fetcher.advertised()

    def _consumer_settings(self, timeout_s: float) -> dict[str, Any]:
        limit_s = min(self._connection.connect_timeout_s, max(timeout_s, _MIN_BOOTSTRAP_S))
        return {
            "fetch_max_wait_ms": 250,
            **self._settings.client,
            **self._connection.settings(),
            "bootstrap_timeout_ms": int(limit_s * 1000),
            "client_id": self._settings.client_id,
            "kafka_client": direct_client,
            "group_id": None,
            "isolation_level": "read_committed",
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "check_crcs": True,
            "fetch_max_bytes": self._settings.fetch_max_bytes,
            "max_partition_fetch_bytes": self._settings.max_partition_fetch_bytes,
            # One record may be as large as the topic allows, whatever the fetch's bounds.
            "receive_message_max_bytes": _MAX_ANSWER_BYTES,
        }
