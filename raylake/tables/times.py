"""Points in time as requests name them: never without a zone."""

from __future__ import annotations

from datetime import UTC, datetime

from raylake.tables.errors import BadRequest, TimeWithoutZone


def has_zone(text: str) -> bool:
    """Whether a text is a time with a zone in ISO 8601."""
    return is_time(text) and datetime.fromisoformat(text.strip()).tzinfo is not None


def is_time(text: str) -> bool:
    """Whether a text is a date or a time in ISO 8601."""
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def instant_ms(moment: datetime | str, what: str) -> int:
    """A point in time as milliseconds since the epoch, rounded down.

    Args:
        moment: A datetime, or a text in ISO 8601.
        what: Where it was given, for messages.

    Raises:
        TimeWithoutZone: It has no zone.
        BadRequest: It is no time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.strip())
        except ValueError:
            raise BadRequest(
                f"{what}: {moment!r} is not a time", hint="write 2026-01-31T12:00:00Z"
            ) from None
    if moment.tzinfo is None:
        raise TimeWithoutZone(
            f"{what}: {moment.isoformat()} has no zone",
            hint=f"write {moment.isoformat(timespec='seconds')}Z for UTC",
        )
    whole = moment.astimezone(UTC)
    return int(whole.timestamp()) * 1000 + whole.microsecond // 1000


def utc(milliseconds: int) -> datetime:
    """Milliseconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
