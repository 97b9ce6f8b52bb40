"""Schedules of five fields, in UTC: what they may be, and when they come next."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator

from raylake.config.findings import Invalid

_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS: Final = ("jan feb mar apr may jun", "jul aug sep oct nov dec")
_DAYS: Final = "sun mon tue wed thu fri sat"
_NAMES: Final = {
    **{name: str(i + 1) for i, name in enumerate(" ".join(_MONTHS).split())},
    **{name: str(i) for i, name in enumerate(_DAYS.split())},
}
_HINT: Final = 'five fields, for example "0 3 * * *": every day at three'
_LONGEST: Final = 2 + 366 * 8
"""Days to the next 29 February at most: 1896 to 1904, and so on; two more for the ends."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule, as sets of what its fields allow; Sunday is 0.

    Attributes:
        either_day: Both days are restricted: one of them is enough, as cron has it.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def next_after(self, moment_ms: int) -> int | None:
        """The first moment after one; None: there is none, as for 30 February.

        Args:
            moment_ms: Milliseconds since the epoch.

        Returns:
            Milliseconds since the epoch, at a full minute of UTC.
        """
        start = datetime.fromtimestamp(moment_ms // 60_000 * 60, UTC) + timedelta(minutes=1)
        day = start.date()
        for _ in range(_LONGEST):
            if self._on(day.year, day.month, day.day):
                first = start if day == start.date() else None
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        if first is None or (hour, minute) >= (first.hour, first.minute):
                            found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                            return int(found.timestamp()) * 1000
            day += timedelta(days=1)
        return None

    def _on(self, year: int, month: int, day: int) -> bool:
        if month not in self.months:
            return False
        weekday = (calendar.weekday(year, month, day) + 1) % 7
        if self.either_day:
            return day in self.days or weekday in self.weekdays
        return day in self.days and weekday in self.weekdays


def parse_cron(text: str) -> Cron:
    """The schedule of five fields: minute, hour, day, month, weekday.

    Raises:
        Invalid: It is not a schedule, or never comes.
    """
    fields = text.lower().split()
    if len(fields) != 5:
        raise Invalid(f"{text!r} is not a schedule", _HINT)
    sets = [
        frozenset(n for item in field.split(",") for n in _numbers(item, low, high, text))
        for field, (low, high) in zip(fields, _RANGES, strict=True)
    ]
    minutes, hours, days, months, weekdays = sets
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    found = Cron(minutes, hours, days, months, frozenset(n % 7 for n in weekdays), either)
    if found.next_after(0) is None:
        raise Invalid(f"{text!r} never comes: no month has such a day", _HINT)
    return found


def check_cron(text: str) -> str:
    """The text, when it is a schedule; raises as :func:`parse_cron`."""
    parse_cron(text)
    return text


def _numbers(item: str, low: int, high: int, text: str) -> range:
    span, slash, step = item.partition("/")
    ends = [str(low), str(high)] if span == "*" else [_NAMES.get(e, e) for e in span.split("-")]
    numbers = [int(e) if re.fullmatch(r"[0-9]{1,2}", e) else -1 for e in ends]
    good = len(ends) <= 2 and all(low <= n <= high for n in numbers) and numbers == sorted(numbers)
    if not good or (slash and not re.fullmatch(r"[1-9][0-9]?", step)):
        raise Invalid(f"{item!r} does not fit in the schedule {text!r}", _HINT)
    last = high if len(numbers) == 1 and slash else numbers[-1]
    return range(numbers[0], last + 1, int(step) if slash else 1)


Schedule = Annotated[str, AfterValidator(check_cron)]
"""Five fields, in UTC."""
