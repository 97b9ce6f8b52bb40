"""Functions of users that mend dead letters: a boundary where anything may be raised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raylake.errors import ConfigError
from raylake.quality import custom
from raylake.quality.errors import CustomRuleFailed

STAGE = "fix"
"""The stage of letters that a fix function could not take."""

_TAKES = (
    "the function takes a raylake.DeadLetter and returns the new value as bytes, None to leave "
    "the letter alone, or dataclasses.replace(letter, value=…, key=…, headers=…)"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, as a fix function gets it.

    Attributes:
        table: The table that the record was meant for.
        topic: Its topic.
        topic_id: The topic's id.
        partition: Its partition.
        offset: Its offset.
        timestamp_ms: The broker's timestamp, ms since the epoch; None for none.
        key: Its key.
        value: Its value; None for a tombstone.
        headers: Its headers, keys may repeat.
        stage: Where it failed.
        reason: Why.
        error_class: The kind of fault.
    """

    table: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    stage: str
    reason: str
    error_class: str

    @property
    def content(self) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]:
        """Key, value and headers: what a fix function may change."""
        return self.key, self.value, self.headers


@dataclass(frozen=True, slots=True)
class NotFixed:
    """Why a fix function could not take a letter.

    Attributes:
        reason: What it raised or returned.
        error_class: The kind of fault.
    """

    reason: str
    error_class: str


class Fix:
    """A fix function.

    Args:
        text: ``file.py:function`` or ``module:function``.

    Raises:
        ConfigError: It cannot be loaded, or there is none of that name.
    """

    def __init__(self, text: str) -> None:
        place = text.rpartition(":")[0]
        try:
            self._function = custom.load(text, "fix function", _TAKES)
        except CustomRuleFailed as error:
            raise ConfigError(error.message, hint=error.hint) from error
        self.name = text
        if place.endswith(".py"):
            digest = hashlib.sha256(Path(place).read_bytes()).hexdigest()[:12]
            self.name = f"{text} (sha256 {digest})"

    def apply(self, letter: DeadLetter) -> DeadLetter | NotFixed | None:
        """What the function makes of a letter; None where it leaves it alone."""
        try:
            made = self._function(letter)
        except Exception as error:  # noqa: BLE001 - user code
            first = str(error).splitlines()[0] if str(error) else ""
            told = f"{type(error).__name__}: {first}".rstrip(": ")
            return NotFixed(f"the fix function raised {told}", type(error).__name__)
        if made is None:
            return None
        if isinstance(made, bytes):
            return replace(letter, value=made)
        wrong = _wrong(made, letter)
        return NotFixed(f"the fix function returned {wrong}", "WrongType") if wrong else made


def _wrong(made: Any, letter: DeadLetter) -> str:
    """What is wrong with what a function returned; empty where nothing is."""
    if not isinstance(made, DeadLetter):
        return f"{type(made).__name__}, not bytes, None or a letter"
    for name in ("key", "value"):
        content = getattr(made, name)
        if content is not None and not isinstance(content, bytes):
            return f"a letter whose {name} is {type(content).__name__}, not bytes"
    if not _are_headers(made.headers):
        return "a letter whose headers are no pairs of text and bytes"
    if replace(made, key=letter.key, value=letter.value, headers=letter.headers) != letter:
        return "a letter with other coordinates: only key, value and headers may change"
    return ""


def _are_headers(headers: Any) -> bool:
    return isinstance(headers, tuple | list) and all(
        isinstance(one, tuple | list)
        and len(one) == 2
        and isinstance(one[0], str)
        and (one[1] is None or isinstance(one[1], bytes))
        for one in headers
    )
