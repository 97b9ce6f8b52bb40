"""kafka-python's fetcher, bounded by bytes, whatever its records become.

It leans on the insides of kafka-python 3.0 that :mod:`raylake.kafka.hooks` lists; the integration
tests of ``raylake.kafka.fetch`` fail when one of them moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import Fetcher as KafkaFetcher
from kafka.record.default_records import DefaultRecordBatch

from raylake.kafka.records import to_arrow

_UNKNOWN_TOPIC = kafka_errors.UnknownTopicOrPartitionError.errno


class Budget:
    """What one poll may still hand out.

    Attributes:
        left_bytes: Bytes of keys, values and headers.
        taken: Records that were handed out.
    """

    __slots__ = ("left_bytes", "taken")

    def __init__(self) -> None:
        self.left_bytes = 0
        self.taken = 0


@dataclass(frozen=True, slots=True)
class RecordForm:
    """What an answer's records become on their way to the caller.

    Attributes:
        part: Makes what kafka-python calls ``PartitionRecords``: from the budget, the leader epoch,
            the offset, the partition, the answer's records and kafka-python's settings.
        batch: Makes one batch of what it took, from an offset on.
    """

    part: Callable[..., Any]
    batch: Callable[[list[Any], int], pa.RecordBatch]


class BoundedRecords(KafkaFetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of a fetch response, handed out within a budget of bytes."""

    def __init__(self, budget: Budget, epoch: int, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._budget = budget
        # An answer without records would otherwise make the position forget its epoch.
        self.leader_epoch = epoch

    def take(self, n: int | None = None) -> list[Any]:
        """At most ``n`` records, at least one, and no more once the budget is spent."""
        self._maybe_raise_next_inline_exception()
        records: list[Any] = []
        budget = self._budget
        iterator = self.record_iterator
        try:
            for record in iterator:
                records.append(record)
                # Key, value and headers; -1 stands for none, so that no record costs nothing.
                budget.left_bytes -= record[10] + record[11] + record[12] + 4
                if budget.left_bytes <= 0 or len(records) == n:
                    break
        except (kafka_errors.KafkaError, ValueError) as error:
            if not records:
                raise
            self._next_inline_exception = error
        budget.taken += len(records)
        return records


class _LenientBytes(bytearray):
    r"""Bytes whose parts decode to text in any case; what is no UTF-8 becomes ``\xNN``."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return _LenientBytes(part) if isinstance(part, bytearray) else part

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class LenientBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A record batch in which a header's key that is not UTF-8 does not stop the partition."""

    # Without slots of its own it has the layout that changing a batch's class asks for.
    __slots__ = ()

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            # The position moves at the end of a record only, so this one is read once more.
            self._buffer = _LenientBytes(self._buffer)  # type: ignore[misc, has-type]
            return super()._read_msg()


class _LenientRecords:
    """The record batches of an answer, made lenient."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if type(batch) is DefaultRecordBatch:
            batch.__class__ = LenientBatch
        return batch


def plain_part(
    budget: Budget, epoch: int, start: int, tp: TopicPartition, records: Any, **more: Any
) -> BoundedRecords:
    """kafka-python's own reading, bounded and lenient."""
    return BoundedRecords(budget, epoch, start, tp, _LenientRecords(records), **more)


def _plain_batch(taken: list[Any], start: int) -> pa.RecordBatch:
    return to_arrow([record for record in taken if record.offset >= start])


PLAIN = RecordForm(plain_part, _plain_batch)
"""One Python object a record."""


class BoundedFetcher(KafkaFetcher):  # type: ignore[misc]
    """The fetcher of a ``KafkaConsumer``, bounded by bytes and observable.

    Attributes:
        budget: Spent by each poll; set it before polling.
        unknown: Partitions that a broker did not know; cleared by the reader.
    """

    def __init__(self, form: RecordForm, client: Any, subscriptions: Any, **settings: Any) -> None:
        super().__init__(client, subscriptions, **settings)
        self.budget = Budget()
        self._form = form
        self._answers: dict[int, float] = {}
        self.unknown: set[TopicPartition] = set()

    def positions(self) -> dict[TopicPartition, Any]:
        """The position of every assigned partition that has one; no request is sent."""
        return {
            tp: self._subscriptions.position(tp)
            for tp in self._subscriptions.assigned_partitions()
            if self._subscriptions.has_valid_position(tp)
        }

    def seek(self, tp: TopicPartition, position: Any) -> None:
        """Seek with a leader epoch, which ``KafkaConsumer.seek`` does not take."""
        self._subscriptions.seek(tp, position)

    def bound_parts(self, nbytes: int) -> None:
        """From the next request on, at most so many bytes of an answer for each partition."""
        self.config["max_partition_fetch_bytes"] = nbytes

    def answered_s(self, tp: TopicPartition) -> float:
        """Monotonic time at which the partition's leader last answered a fetch, 0 for never."""
        return self._answers.get(self._manager.cluster.leader_for_partition(tp), 0.0)

    def topic_id(self, topic: str) -> str | None:
        """The topic's id in the latest metadata."""
        found = self._manager.cluster.topic_id(topic)
        return None if found is None else str(found)

    def advertised(self) -> list[tuple[str, int]]:
        """The addresses of the brokers in the latest metadata."""
        return [(b.host, b.port) for b in self._manager.cluster.brokers()]

    def PartitionRecords(self, start: int, tp: TopicPartition, records: Any, **more: Any) -> Any:  # noqa: N802
        """What the base class looks up to unpack an answer."""
        epoch = self._subscriptions.position(tp).leader_epoch
        return self._form.part(self.budget, epoch, start, tp, records, **more)

    def fetched_records(self, max_records: int | None = None, update_offsets: bool = True) -> Any:
        """The base class's, which else leaves a resumed partition parked for ever.

        It takes parked records up again only when nothing is in line, and counts what is used up
        as in line (kafka-python 3.0.12).
        """
        if not self._next_partition_records:  # type: ignore[has-type]
            self._next_partition_records = None
        return super().fetched_records(max_records, update_offsets)

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        before = self.budget.taken
        super()._append(drained, part, max_records, update_offsets)
        # A full answer ends the caller's loop.
        return max_records if self.budget.left_bytes <= 0 else self.budget.taken - before

    def _parse_fetched_data(self, completed: Any) -> Any:
        if completed.partition_data.error_code == _UNKNOWN_TOPIC:
            self.unknown.add(completed.topic_partition)
        return super()._parse_fetched_data(completed)

    def _handle_fetch_response(
        self, node_id: int, fetch_offsets: Any, send_time: float, response: Any
    ) -> None:
        self._answers[node_id] = time.monotonic()
        super()._handle_fetch_response(node_id, fetch_offsets, send_time, response)
