"""Dead letters as records of a Kafka topic; what is known of them is in headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from raylake.errors import Retryable
from raylake.kafka.connection import Connection, explain
from raylake.storage.place import Place, open_input

PREFIX: Final = "raylake."
TOLD: Final = (
    *("pipeline", "table", "topic", "topic_id", "partition", "offset", "timestamp"),
    *("stage", "reason", "error_class", "failed_at", "unit_id", "value_left_out"),
)
"""What goes into headers ``raylake.<name>``, as text; coordinates tell what came twice."""

Headers = list[tuple[str, bytes | None]]


class KafkaTarget:
    """Produces dead letters to a topic.

    Args:
        connection: The cluster.
        topic: The topic; it has to be there, or be made by the broker.
    """

    name = "kafka"

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._producer: Any = None

    def take(self, table: Place, path: str, values: Mapping[str, str | None]) -> int:
        """Produce the letters of one file; every broker has them when it returns.

        Raises:
            Retryable: Not all of them are acknowledged; they may come again.
            RayLakeError: No broker answers, or it refuses this user.
        """
        count = 0
        try:
            if self._producer is None:
                settings = self._connection.settings()
                self._producer = KafkaProducer(**settings, acks="all", compression_type="lz4")
            for batch in _batches(table, path):
                rows = [{**values, **row} for row in batch.to_pylist()]
                # What the topic does not take whole goes without its value.
                self._send([_without_value(row) for row in self._send(rows)])
                count += len(rows)
        except kafka_errors.KafkaError as error:
            self._forget()
            raise explain(error, self._connection, f"producing to {self._topic!r}") from error
        except Retryable:
            self._forget()
            raise
        return count

    def _send(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Produce, and wait for the answers; returns those that are too large."""
        waiting, large = [], []
        for row in rows:
            record = {"key": row["key"], "value": row["value"], "headers": headers_of(row)}
            try:
                waiting.append((row, self._producer.send(self._topic, **record)))
            except kafka_errors.MessageSizeTooLargeError:
                large.append(row)
        self._producer.flush(self._connection.connect_timeout_s * 3)
        failed = [(row, sent.exception) for row, sent in waiting if not sent.succeeded()]
        large += [row for row, why in failed if _is_large(why)]
        others = [why for _, why in failed if not _is_large(why)]
        if others:
            raise Retryable(
                f"{len(others)} dead letters were not acknowledged by {self._topic!r}: {others[0]}",
                hint="they are produced again",
            )
        return [row for row in large if row["value"] is not None]

    def _forget(self) -> None:
        """A producer that failed is not asked again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=0)


def _is_large(why: object) -> bool:
    return isinstance(why, kafka_errors.MessageSizeTooLargeError)


def _without_value(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "value": None, "value_left_out": len(row["value"])}


def headers_of(row: dict[str, Any]) -> Headers:
    """The record's own headers, then what is known of its letter."""
    own = [(one["key"], one["value"]) for one in row.get("headers") or ()]
    told = ((name, row.get(name)) for name in TOLD)
    return [*own, *((PREFIX + name, _text(value)) for name, value in told if value is not None)]


def _text(value: Any) -> bytes:
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text.encode()


def _batches(table: Place, path: str) -> Iterator[pa.RecordBatch]:
    with open_input(table / unquote(path)) as opened, pq.ParquetFile(opened) as parquet:
        yield from parquet.iter_batches(batch_size=1000, use_threads=False)
