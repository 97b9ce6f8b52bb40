"""The records of compressed record batches, a part at a time."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import lz4.frame
import snappy
import zstandard
from kafka.errors import CorruptRecordError, UnsupportedCodecError

PART_BYTES: Final = 8 * 1024 * 1024
"""A batch that decompresses to no more is read at once."""

_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_BYTES: Final = 16
_GZIP: Final = 31
_INPUT_BYTES: Final = 256 * 1024
_MAX_LZ4_RATIO: Final = 255
_FIRST_RATIO: Final = 16
_MIN_READ_BYTES: Final = 64 * 1024

Buffer = bytes | bytearray | memoryview


class Decompressed:
    """What a batch decompresses to.

    Args:
        codec: The number of the compression in the batch's attributes.
        data: What follows the batch's header.

    Raises:
        UnsupportedCodecError: There is no such compression.
    """

    def __init__(self, codec: int, data: memoryview) -> None:
        known = _CODECS.get(codec)
        if known is None:
            raise UnsupportedCodecError(f"Unrecognized compression type: {codec}")
        self._name = known[0]
        self._parts = known[1](data) if data else iter(())
        self._ahead = self._next()

    @property
    def finished(self) -> bool:
        """Whether all was read."""
        return self._ahead is None

    def read(self, size: int = PART_BYTES) -> Buffer:
        """The next part, of about ``size`` bytes; nothing after the last one.

        Raises:
            CorruptRecordError: It is not what the attributes say.
        """
        parts: list[Buffer] = []
        while self._ahead is not None and size > 0:
            parts.append(self._ahead)
            size -= len(self._ahead)
            self._ahead = self._next()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next(self) -> Buffer | None:
        try:
            return next(self._parts, None)
        except _FAILURES as error:
            raise CorruptRecordError(f"cannot be decompressed ({self._name}): {error}") from error


def _gunzip(data: memoryview) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        stream = zlib.decompressobj(_GZIP)
        while not stream.eof:
            # In slices: what is not consumed is copied at each step.
            given = data[at : at + _INPUT_BYTES]
            part = stream.decompress(given, PART_BYTES)
            at += len(given) - len(stream.unconsumed_tail) - len(stream.unused_data)
            if part:
                yield part
            elif not given and not stream.eof:
                raise EOFError("the data ends early")
        # Padding between members, as Python's gzip has it.
        while at < len(data) and not data[at]:
            at += 1


def _unsnap(data: memoryview) -> Iterator[Buffer]:
    if bytes(data[:8]) != _XERIAL:
        yield snappy.decompress(data)
        return
    at = _XERIAL_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if size < 0 or size > len(data) - at:
            raise EOFError("a block is cut off")
        yield snappy.decompress(data[at : at + size])
        at += size


def _unlz4(data: memoryview) -> Iterator[bytes]:
    if len(data) * _MAX_LZ4_RATIO <= PART_BYTES:
        yield lz4.frame.decompress(data)
        return
    stream = lz4.frame.LZ4FrameDecompressor()
    given: Buffer = data
    while not stream.eof:
        part = stream.decompress(given, max_length=PART_BYTES)
        if not part and not given and not stream.eof:
            raise EOFError("the data ends early")
        given = b""
        if part:
            yield part


def _unzstd(data: memoryview) -> Iterator[bytes]:
    size = min(max(_FIRST_RATIO * len(data), _MIN_READ_BYTES), PART_BYTES)
    whole = _unzstd_at_once(data, size)
    if whole is not None:
        yield whole
        return
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        while part := stream.read(size):
            yield part


def _unzstd_at_once(data: memoryview, size: int) -> bytes | None:
    """All of it when it is not longer; a decompressor that is kept takes half the time."""
    if not hasattr(_kept, "zstd"):
        _kept.zstd = zstandard.ZstdDecompressor()
    with _kept.zstd.stream_reader(data, read_across_frames=True) as stream:
        whole: bytes = stream.read(size)
        return None if stream.read(1) else whole


_kept: Final = threading.local()
_FAILURES: Final = (
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    snappy.UncompressError,
    zstandard.ZstdError,
)
_CODECS: Final[dict[int, tuple[str, Callable[[memoryview], Iterator[Buffer]]]]] = {
    1: ("gzip", _gunzip),
    2: ("snappy", _unsnap),
    3: ("lz4", _unlz4),
    4: ("zstd", _unzstd),
}
