"""Kafka's connection without copies: a large answer is received where it will be read.

kafka-python 3.0 receives 4 KiB at a time and copies each byte five times on its way to the record
batches. Here the socket writes into the answer's own buffer, and record batches are views of it.
"""

from __future__ import annotations

import socket
from typing import Any

from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

_FIRST_BYTES = 64 * 1024
_DIRECT_BYTES = 64 * 1024
_WAKE_BYTES = 256 * 1024


class Answer(KafkaBytes):  # type: ignore[misc]
    """An answer that is read in place."""

    def read(self, nbytes: int | None = None) -> Any:
        """The next bytes; kafka-python decodes an answer from all that is left of it."""
        if nbytes is not None:
            return super().read(nbytes)
        start = self.tell()
        self.seek(len(self))
        return memoryview(self)[start:]


class DirectTransport(KafkaTCPTransport):  # type: ignore[misc]
    """A connection that receives large answers in place.

    All but an answer's last byte, which goes kafka-python's way and lets it take the answer.
    """

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        try:
            if self._fill():
                return b"", None
            first = self._sock.recv(_FIRST_BYTES)
        except (BlockingIOError, InterruptedError):
            return b"", None
        except OSError:
            first = b""
        # The base class reads it again, and knows what to do then.
        return (first, None) if first else super()._sock_recv()

    def _fill(self) -> int:
        """Receive into the answer that is under way; how many bytes, 0 when none is expected."""
        parser = self._protocol.parser
        answer = parser._rbuffer if parser is not None and parser._receiving else None  # noqa: SLF001
        if answer is None or len(answer) < _DIRECT_BYTES:
            return 0
        answer.__class__ = Answer
        at, end = answer.tell(), len(answer) - 1
        filled = 0
        with memoryview(answer) as room:
            while at + filled < end:
                try:
                    got = self._sock.recv_into(room[at + filled : end])
                except (BlockingIOError, InterruptedError):
                    break
                if not got:
                    break
                filled += got
        answer.seek(at + filled)
        self._wake_at(end - at - filled)
        return filled

    def _wake_at(self, missing: int) -> None:
        low = max(1, min(missing, _WAKE_BYTES))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        made = await super()._build_transport(node, timeout_at=timeout_at)
        if type(made) is KafkaTCPTransport:
            made.__class__ = DirectTransport
        return made


def direct_client(**settings: Any) -> KafkaNetClient:
    """What ``KafkaConsumer`` takes as ``kafka_client``; TLS connections stay kafka-python's."""
    selector = NetworkSelector(**settings)
    return KafkaNetClient(net=selector, manager=_Manager(selector, **settings), **settings)
