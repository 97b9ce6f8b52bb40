"""Parse one JSON message with nothing lost: numbers keep their digits, duplicates are seen.

The nodes of a parsed message are ``None``, ``bool``, ``str``, :class:`Number`, ``list``, ``dict``.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import numpy as np

Node = Any

_OPENING = np.zeros(256, dtype=np.int32)
_OPENING[[0x5B, 0x7B]] = 1
_OPENING[[0x5D, 0x7D]] = -1
# Possessive, and an unterminated string runs to the end: linear on every input.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ESCAPE = json.encoder.encode_basestring
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    type(None): "null",
    int: "number",
    float: "number",
}


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class BadMessage(ValueError):
    """A value that is no row.

    Attributes:
        stage: ``decode`` or ``validate``.
        error_class: The kind of fault.
        reason: What is wrong, for people.
    """

    def __init__(self, stage: str, error_class: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.error_class = error_class
        self.reason = reason


def parse(value: bytes, *, max_depth: int, max_bytes: int) -> dict[str, Node]:
    """The top-level object of a message.

    Raises:
        BadMessage: The bytes are not exactly one JSON object (RFC 8259, UTF-8, no byte order
            mark, unique names, no lone surrogate) within the limits.
    """
    text = _text(value, max_depth, max_bytes)
    try:
        node = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadMessage("decode", *_syntax(text, error)) from None
    if type(node) is not dict:
        raise BadMessage(
            "decode", "NotAnObject", f"the message is {kind_of(node)}, not a JSON object"
        )
    if "\\u" in text or "\\U" in text:
        _refuse_surrogates(node)
    return node


def depth(value: bytes) -> int:
    """The greatest nesting of brackets outside strings; exact for JSON, defined for any bytes."""
    brackets = _OPENING[np.frombuffer(_STRINGS.sub(b"", value), dtype=np.uint8)]
    return int(np.cumsum(brackets).max(initial=0))


def to_text(node: Node) -> str:
    """The JSON text of a node: compact, numbers exactly as they were written."""
    kind = type(node)
    if kind is Number:
        return str.__str__(node)
    if kind is str:
        return _ESCAPE(node)
    if node is None:
        return "null"
    if kind is bool:
        return "true" if node else "false"
    if kind is list:
        return "[" + ",".join([to_text(item) for item in node]) + "]"
    return "{" + ",".join([f"{_ESCAPE(k)}:{to_text(v)}" for k, v in node.items()]) + "}"


def kind_of(node: Node) -> str:
    """The JSON kind of a node: object, array, string, number, boolean or null."""
    return _KINDS.get(type(node), "number")


def clipped(text: str, limit: int = 80) -> str:
    """Text for a reason: at most ``limit`` characters, printable."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return repr(shown)[1:-1]


def too_large(length: int, max_bytes: int) -> BadMessage:
    """What is wrong with a value of more than ``max_bytes``."""
    reason = f"{length} bytes; at most {max_bytes} are decoded"
    return BadMessage("decode", "MessageTooLarge", reason)


def _text(value: bytes, max_depth: int, max_bytes: int) -> str:
    if len(value) > max_bytes:
        raise too_large(len(value), max_bytes)
    if not value:
        raise BadMessage("decode", "EmptyValue", "the value has 0 bytes")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage(
            "decode", "InvalidUtf8", f"byte {error.start} is not valid UTF-8: {error.reason}"
        ) from None
    if text[0] == "\ufeff":
        raise BadMessage("decode", "ByteOrderMark", "the message begins with a byte order mark")
    if value.count(b"[") + value.count(b"{") > max_depth:
        found = depth(value)
        if found > max_depth:
            raise BadMessage(
                "decode", "TooDeep", f"nested {found} deep; at most {max_depth} is decoded"
            )
    return text


def _syntax(text: str, error: json.JSONDecodeError) -> tuple[str, str]:
    if not text.strip(" \t\r\n"):
        return "EmptyValue", "the value is only white space"
    near = clipped(text[error.pos : error.pos + 20])
    where = f"at character {error.pos}" + (f" near '{near}'" if near else " (the end)")
    if error.msg == "Extra data":
        return "TrailingData", f"more text after the JSON value {where}"
    return "InvalidJson", f"{error.msg} {where}"


def _object(pairs: list[tuple[str, Node]]) -> dict[str, Node]:
    node = dict(pairs)
    if len(node) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadMessage(
                    "decode", "DuplicateKey", f"the field '{clipped(name)}' is there twice"
                )
            seen.add(name)
    return node


def _constant(text: str) -> NoReturn:
    raise BadMessage("decode", "NonFiniteNumber", f"{text} is not JSON")


def _refuse_surrogates(node: Node) -> None:
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            waiting.extend(one)
            waiting.extend(one.values())
        elif type(one) is list:
            waiting.extend(one)
        elif type(one) is str and _SURROGATE.search(one):
            raise BadMessage(
                "decode", "LoneSurrogate", "a string has half of a surrogate pair (\\ud800-\\udfff)"
            )


_DECODER = json.JSONDecoder(
    parse_float=Number, parse_int=Number, parse_constant=_constant, object_pairs_hook=_object
)
