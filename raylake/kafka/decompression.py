"""The records of compressed record batches."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

import lz4.frame
import snappy
import zstandard
from kafka.errors import CorruptRecordError, UnsupportedCodecError

_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_BYTES: Final = 16
_GZIP: Final = 31

Buffer = bytes | bytearray | memoryview


def decompress(codec: int, data: memoryview) -> Buffer:
    """The records of a batch.

    Args:
        codec: The number of the compression in the batch's attributes.
        data: What follows the batch's header.

    Raises:
        UnsupportedCodecError: There is no such compression.
        CorruptRecordError: It is not what the attributes say.
    """
    if not data:
        return b""
    known = _CODECS.get(codec)
    if known is None:
        raise UnsupportedCodecError(f"Unrecognized compression type: {codec}")
    name, read = known
    try:
        return read(data)
    except _FAILURES as error:
        raise CorruptRecordError(f"cannot be decompressed ({name}): {error}") from error


def _gunzip(data: memoryview) -> bytes:
    parts = []
    rest: Buffer = data
    while rest:
        stream = zlib.decompressobj(_GZIP)
        parts.append(stream.decompress(rest))
        if not stream.eof:
            raise EOFError("the data ends early")
        rest = stream.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unsnap(data: memoryview) -> Buffer:
    if bytes(data[:8]) != _XERIAL:
        return bytes(snappy.decompress(data))
    parts = []
    at = _XERIAL_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if size < 0 or size > len(data) - at:
            raise EOFError("a block is cut off")
        parts.append(snappy.decompress(data[at : at + size]))
        at += size
    return b"".join(parts)


def _unlz4(data: memoryview) -> bytes:
    found: bytes = lz4.frame.decompress(data)
    return found


def _unzstd(data: memoryview) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        found: bytes = stream.read()
    return found


_FAILURES: Final = (
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    snappy.UncompressError,
    zstandard.ZstdError,
)
_CODECS: Final[dict[int, tuple[str, Callable[[memoryview], Buffer]]]] = {
    1: ("gzip", _gunzip),
    2: ("snappy", _unsnap),
    3: ("lz4", _unlz4),
    4: ("zstd", _unzstd),
}
