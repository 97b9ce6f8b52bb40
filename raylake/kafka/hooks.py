"""The insides of kafka-python that fetching leans on, and whether this version has them."""

from __future__ import annotations

from typing import Any, Final

import kafka
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes
from kafka.protocol.parser import KafkaProtocol
from kafka.record.memory_records import MemoryRecords

from raylake.errors import Refused

OLDEST: Final = (3, 0, 12)
NEWER: Final = (3, 1)
SUPPORTED: Final = "3.0.12 to 3.0.x"

HOOKS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (
        Fetcher,
        (
            "PartitionRecords",
            "fetched_records",
            "_append",
            "_parse_fetched_data",
            "_handle_fetch_response",
        ),
    ),
    (
        getattr(Fetcher, "PartitionRecords", object),
        (
            "take",
            "drain",
            "_unpack_records",
            "_maybe_raise_next_inline_exception",
            "_consume_aborted_transactions_up_to",
            "_contains_abort_marker",
        ),
    ),
    (MemoryRecords, ("_buffer",)),
    (KafkaTCPTransport, ("_sock_recv",)),
    (KafkaSSLTransport, ("_sock_recv",)),
    (KafkaConnectionManager, ("_build_transport", "_connect", "get_connection")),
    (KafkaProtocol, ("receive_bytes", "_process_response")),
    (KafkaBytes, ("read", "seek", "tell")),
)


def refuse_other_versions() -> None:
    """Check kafka-python before anything is fetched.

    Raises:
        Refused: It is of another version, or lacks something that is overridden here.
    """
    found = kafka.__version__
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in HOOKS
        for name in names
        if not hasattr(owner, name)
    ]
    if "kafka_client" not in KafkaConsumer.DEFAULT_CONFIG:
        missing.append("KafkaConsumer's option kafka_client")
    if OLDEST <= _numbers(found) < NEWER and not missing:
        return
    lacks = f" (it lacks {', '.join(missing)})" if missing else ""
    raise Refused(
        f"kafka-python {found} is not supported{lacks}: its fetcher may skip or repeat records "
        f"here; supported is {SUPPORTED}",
        hint="pip install 'kafka-python>=3.0.12,<3.1'",
        found=found,
        supported=SUPPORTED,
    )


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) if part.isdigit() else -1 for part in parts[:3])
