"""How a validator says what is wrong: one or several findings, each with a place and a hint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raylake.near import did_you_mean

__all__ = ["Finding", "Invalid", "Loc", "did_you_mean", "dotted"]

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        at: Keys and list indices that lead to the value, from where the validator stands.
        message: What is wrong, without the place.
        hint: What to write instead; empty when there is nothing to say.
        on_key: Whether the key is wrong and not its value.
    """

    at: Loc
    message: str
    hint: str = ""
    on_key: bool = False


class Invalid(ValueError):
    """A value that cannot be accepted; pydantic carries it to the loader.

    Args:
        message: What is wrong; never a secret's value.
        hint: What to write instead.
        findings: Several findings, in place of the message.
    """

    def __init__(self, message: str, hint: str = "", findings: Iterable[Finding] = ()) -> None:
        self.findings = tuple(findings) or (Finding((), message, hint),)
        super().__init__("; ".join(f.message for f in self.findings))


def dotted(loc: Loc) -> str:
    """A location as people write it: ``bronze.orders.topics[0]``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
