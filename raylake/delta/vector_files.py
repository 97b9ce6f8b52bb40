"""Where a deletion vector lies (Delta protocol, deletion vector descriptor)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

_Z85: Final = (
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)
_UUID_CHARACTERS: Final = 20


def vector_file(descriptor: Mapping[str, Any] | None) -> str | None:
    """The file of a vector, relative to its table or an address; None where it lies in the log.

    A relative one is written as a prefix and a UUID in Z85 (ZeroMQ RFC 32).
    """
    if descriptor is None or descriptor.get("storageType") not in ("u", "p"):
        return None
    text = str(descriptor["pathOrInlineDv"])
    if descriptor["storageType"] == "p":
        return text
    prefix, encoded = text[:-_UUID_CHARACTERS], text[-_UUID_CHARACTERS:]
    name = f"deletion_vector_{uuid.UUID(bytes=z85_decoded(encoded))}.bin"
    return f"{prefix}/{name}" if prefix else name


def z85_decoded(text: str) -> bytes:
    """The bytes of a text in Z85, five characters for four bytes."""
    found = bytearray()
    for start in range(0, len(text), 5):
        value = 0
        for character in text[start : start + 5]:
            value = value * 85 + _Z85.index(character)
        found += value.to_bytes(4, "big")
    return bytes(found)
