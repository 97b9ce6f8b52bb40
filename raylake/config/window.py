"""A part of the day in UTC, as ``22:00-06:00``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time
from typing import Annotated, Final, Self

from pydantic import AfterValidator

from raylake.config.findings import Invalid

_TEXT: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """A part of each day; it may reach over midnight.

    Attributes:
        begins: Its first minute.
        ends: The first minute after it.
        text: As it was written.
    """

    begins: time
    ends: time
    text: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The window of a text.

        Raises:
            Invalid: It is none.
        """
        found = _TEXT.fullmatch(text)
        if found is None or found.group(1, 2) == found.group(3, 4):
            raise Invalid(f"{text!r} is no part of the day", 'begin and end in UTC: "22:00-06:00"')
        first, second, third, fourth = (int(one) for one in found.groups())
        return cls(time(first, second), time(third, fourth), text)

    def holds(self, moment: datetime) -> bool:
        """Whether a moment in UTC lies in it."""
        at = moment.time()
        if self.begins < self.ends:
            return self.begins <= at < self.ends
        return at >= self.begins or at < self.ends


def _checked(text: str) -> str:
    Window.of(text)
    return text


WindowText = Annotated[str, AfterValidator(_checked)]
"""A part of the day in UTC."""
