"""Kafka's connection without copies: a large answer is received where it will be read.

kafka-python 3.0 receives 4 KiB at a time and copies each byte five times on its way to the record
batches. Here the socket writes into the answer's own buffer, and record batches are views of it.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

from kafka.errors import KafkaConnectionError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

from raylake.kafka.access import refusal

_FIRST_BYTES = 64 * 1024
_DIRECT_BYTES = 64 * 1024
_WAKE_BYTES = 256 * 1024
_TLS_RECORD_BYTES = 20 * 1024
_NOTHING_YET: Final = (
    BlockingIOError,
    InterruptedError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
)


class Answer(KafkaBytes):  # type: ignore[misc]
    """An answer that is read in place."""

    def read(self, nbytes: int | None = None) -> Any:
        """The next bytes; kafka-python decodes an answer from all that is left of it."""
        if nbytes is not None:
            return super().read(nbytes)
        start = self.tell()
        self.seek(len(self))
        return memoryview(self)[start:]


class CarefulTransport(KafkaTCPTransport):  # type: ignore[misc]
    """A connection that delivers what the broker said before it hung up.

    kafka-python drops it, and with it the reason: a broker answers a wrong password and closes.
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
        """Receive elsewhere; how many bytes."""
        return 0


class CarefulTlsTransport(KafkaSSLTransport):  # type: ignore[misc]
    """The same over TLS.

    What OpenSSL has decrypted and nobody has taken wakes nobody, since the socket is empty by
    then: such bytes are always taken before the next wait.
    """

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        taken: list[bytes] = []
        error: Exception | None = None
        try:
            filled = self._fill()
            while not (filled or taken) or self._sock.pending():
                some = self._sock.recv(_FIRST_BYTES)
                if not some:
                    error = KafkaConnectionError("socket disconnected")
                    break
                taken.append(some)
        except _NOTHING_YET:
            pass
        except OSError as failed:
            error = KafkaConnectionError(failed)
        # What came before an error is delivered first; the next call meets the error again.
        return b"".join(taken), None if taken else error

    def _fill(self) -> int:
        """Receive elsewhere; how many bytes."""
        return 0


class _InPlace:
    """The bytes of a large answer go into it, all but the last.

    That one goes kafka-python's way and lets it take the answer.
    """

    _sock: Any
    _protocol: Any

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
                except _NOTHING_YET:
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


class DirectTransport(_InPlace, CarefulTransport):
    """A connection that receives large answers in place."""


class DirectTlsTransport(_InPlace, CarefulTlsTransport):
    """A TLS connection that decrypts large answers in place."""

    def _wake_at(self, missing: int) -> None:
        # OpenSSL may hold the beginning of a TLS record, which is missing in the socket then.
        super()._wake_at(missing - _TLS_RECORD_BYTES)


class _Watching(KafkaConnectionManager):  # type: ignore[misc]
    """Keeps what a connection was refused for, and raises it instead of trying again.

    kafka-python 3.0 means to, but a connection's failure never gets as far as its own notes.
    """

    async def _connect(self, node: Any, conn: Any, *given: Any, **more: Any) -> None:
        await super()._connect(node, conn, *given, **more)
        found = refusal(conn.init_future.exception, f"{node.host}:{node.port}")
        if found is not None:
            self._auth_failures[node.node_id] = found

    _plain: type[KafkaTCPTransport] = CarefulTransport
    _tls: type[KafkaSSLTransport] = CarefulTlsTransport

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        made = await super()._build_transport(node, timeout_at=timeout_at)
        if type(made) is KafkaTCPTransport:
            made.__class__ = self._plain
        elif type(made) is KafkaSSLTransport:
            made.__class__ = self._tls
        return made


class _Direct(_Watching):
    _plain = DirectTransport
    _tls = DirectTlsTransport


def watching_client(**settings: Any) -> KafkaNetClient:
    """What clients of kafka-python take as ``kafka_client``: it says why it was refused."""
    selector = NetworkSelector(**settings)
    return KafkaNetClient(net=selector, manager=_Watching(selector, **settings), **settings)


def direct_client(**settings: Any) -> KafkaNetClient:
    """The one for ``KafkaConsumer``, which also receives large answers in place."""
    selector = NetworkSelector(**settings)
    return KafkaNetClient(net=selector, manager=_Direct(selector, **settings), **settings)
