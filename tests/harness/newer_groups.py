"""A member of a consumer group of the newer protocol (KIP-848), unknown to kafka-python."""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

_HEARTBEAT = 68
_ANSWER_S = 30.0


def _text(value: str) -> bytes:
    """A text of the compact encoding; lengths below 127 only."""
    data = value.encode()
    assert len(data) < 127
    return bytes([len(data) + 1]) + data


def _heartbeat(group: str, member: str, epoch: int, topic: str) -> bytes:
    none, no_tags = b"\x00", b"\x00"
    header = struct.pack(">hhih", _HEARTBEAT, 0, 0, -1) + no_tags
    subscribed = b"\x02" + _text(topic)
    # Without an instance, a rack and an assignor; nothing is owned as yet.
    body = _text(group) + _text(member) + struct.pack(">i", epoch) + none + none
    body += struct.pack(">i", 60_000) + subscribed + none + b"\x01" + no_tags
    return header + body


def _ask(wire: socket.socket, request: bytes) -> tuple[int, bytes]:
    """The error code of an answer, and what follows it."""
    wire.sendall(struct.pack(">i", len(request)) + request)
    with wire.makefile("rb") as answers:
        (size,) = struct.unpack(">i", answers.read(4))
        answer = answers.read(size)
    # Correlation id, tags, throttle time; then the error.
    (code,) = struct.unpack_from(">h", answer, 9)
    return code, answer[11:]


@contextmanager
def newer_member(bootstrap: str, group: str, topic: str) -> Iterator[None]:
    """A member that has joined, and leaves afterwards."""
    host, _, port = bootstrap.partition(":")
    member = str(uuid.uuid4())
    with socket.create_connection((host, int(port)), timeout=_ANSWER_S) as wire:
        code, rest = _ask(wire, _heartbeat(group, member, 0, topic))
        assert code == 0, (code, rest)
        yield
        code, rest = _ask(wire, _heartbeat(group, member, -1, topic))
        assert code == 0, (code, rest)
