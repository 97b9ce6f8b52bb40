"""Messages that no decoder of the demo's schema may accept, one function a kind (FAILURES 14, 15).

Each entry of :data:`POISONS` takes a valid order event as text and breaks it in one way. The result
must become one dead letter; a decoder that keeps such a record as a row has changed its meaning.
"""

from __future__ import annotations

from collections.abc import Callable

Breaker = Callable[[str], bytes]


def _replace(field: str, literal: str) -> Breaker:
    """A breaker that sets ``field`` to a JSON literal, text kept for every other field."""

    def broken(event: str) -> bytes:
        head, _, rest = event.partition(f'"{field}":')
        cut = rest.find(',"') if ',"' in rest else rest.rfind("}")
        return f'{head}"{field}":{literal}{rest[cut:]}'.encode()

    return broken


def with_fraction(event: str) -> bytes:
    """A good event whose quantity fits only a wider type: a row all the same (SPEC A6)."""
    return _replace("quantity", "1.5")(event)


def with_amount(event: str, amount: str) -> bytes:
    """A good event of bronze with another text as its amount, for silver to convert or judge."""
    return _replace("amount", f'"{amount}"')(event)


def without_customer(event: str) -> bytes:
    """A good event of bronze that names no customer."""
    return _replace("customer_id", "null")(event)


def _append(member: str) -> Breaker:
    """A breaker that adds one member text at the end of the object."""
    return lambda event: f"{event[:-1]},{member}}}".encode()


POISONS: dict[str, Breaker] = {
    "truncated": lambda event: event[: len(event) * 2 // 3].encode(),
    "one_byte_short": lambda event: event[:-1].encode(),
    "bad_utf8": lambda event: event.encode().replace(b'"country":"', b'"country":"\xff\xfe', 1),
    "overlong_utf8": lambda event: event.encode().replace(
        b'"country":"', b'"country":"\xc0\xaf', 1
    ),
    "utf16": lambda event: event.encode("utf-16-le"),
    "binary": lambda _: bytes(range(256)),
    "empty": lambda _: b"",
    "blank": lambda _: b" \n\t ",
    "array": lambda event: f"[{event}]".encode(),
    "number": lambda _: b"42",
    "string": lambda _: b'"an order"',
    "null_literal": lambda _: b"null",
    "two_objects": lambda event: f"{event}{event}".encode(),
    "trailing_text": lambda event: f"{event} ;".encode(),
    "trailing_comma": lambda event: f"{event[:-1]},}}".encode(),
    "single_quotes": lambda event: event.replace('"', "'").encode(),
    "raw_newline": _replace("segment", '"con\nsumer"'),
    "bad_escape": _replace("segment", r'"con\qsumer"'),
    "lone_surrogate": _replace("segment", r'"\ud800"'),
    "nan": _replace("quantity", "NaN"),
    "huge_int": _replace("quantity", "9" * 40),
    "text_for_int": _replace("quantity", '"many"'),
    "object_for_text": _replace("customer_id", '{"id":7}'),
    "array_for_text": _replace("country", '["NO"]'),
    "not_a_time": _replace("ordered_at", '"the day before yesterday"'),
    "duplicate_keys": _append('"order_id":"another"'),
    "deep_nesting": _append(f'"note":{"[" * 5000}{"]" * 5000}'),
}
"""Kind → what breaks a valid event that way."""

NAMES = tuple(POISONS)


def poison(kind: str, event: str) -> bytes:
    """The bytes of ``event`` broken in the way named ``kind``.

    Raises:
        KeyError: No such kind.
    """
    return POISONS[kind](event)
