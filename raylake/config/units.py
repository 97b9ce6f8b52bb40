"""Durations, sizes and ratios: text with a unit in the file, plain numbers in Python.

In a file a bare number is an error with a hint. In Python (no validation context) a number is
taken in the unit that the attribute's name ends with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from raylake.config.findings import Invalid

_MS: Final[Mapping[str, int]] = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_BYTES: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER: Final = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_DURATION: Final = rf"({_NUMBER}) ?(ms|s|m|h|d)"
_SIZE: Final = rf"({_NUMBER}) ?([kKMGT]?B|[KMGT]iB)"
_RATIO: Final = rf"({_NUMBER}) ?%"
_BARE: Final = re.compile(rf"-?{_NUMBER}")
MAX_DURATION_S: Final = 36_500 * 86_400.0
MAX_SIZE_BYTES: Final = 2**60
FROM_FILE: Final = "from_file"


def is_from_file(info: ValidationInfo) -> bool:
    """Whether the value comes from a file, a variable or a flag, and not from Python."""
    return bool(info.context and info.context.get(FROM_FILE))


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``200ms``, ``5s``, ``10m``, ``1h``, ``7d``.

    Raises:
        Invalid: There is no unit, the unit is unknown, or it is longer than 100 years.
    """
    bare = "write {}s (units: ms, s, m, h, d)"
    ms = _amount(text, _DURATION, _MS, ("a duration", bare, "write 200ms, 5s, 10m, 1h or 7d"))
    seconds = float(ms / 1000)
    if seconds > MAX_DURATION_S:
        raise Invalid(f"{text!r} is longer than 100 years")
    return seconds


def _amount(
    text: str, pattern: str, units: Mapping[str, int], words: tuple[str, str, str]
) -> Decimal:
    """A number with a unit, in the least of the units.

    Args:
        text: As it stands in the file.
        pattern: Has the number and the unit as its groups.
        units: What each unit is worth.
        words: What it is, the hint for a bare number, the hint for anything else.
    """
    kind, bare, examples = words
    stripped = text.strip()
    match = re.fullmatch(pattern, stripped)
    if match is not None:
        return Decimal(match[1]) * units[match[2]]
    if _BARE.fullmatch(stripped):
        raise Invalid(f"{kind} needs a unit, and {stripped!r} has none", bare.format(stripped))
    raise Invalid(f"{text!r} is not {kind}", examples)


def format_duration(seconds: float) -> str:
    """The shortest text that :func:`parse_duration` reads as ``seconds``, to the microsecond."""
    ms = Decimal(repr(float(seconds))) * 1000
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _MS[unit] == 0:
            return f"{int(ms // _MS[unit])}{unit}"
    if not ms:
        return "0s"
    return f"{round(ms, 6).normalize():f}ms"


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64MiB``, ``128MB``, ``1.5GiB``, ``512B``.

    Raises:
        Invalid: There is no unit, the unit is unknown, or it is more than 1 EiB.
    """
    bare = "write {0}MiB or {0}B (units: B, kB, MB, GB, KiB, MiB, GiB)"
    size = int(_amount(text, _SIZE, _BYTES, ("a size", bare, "write 64MiB, 128MB or 1GiB")))
    if size > MAX_SIZE_BYTES:
        raise Invalid(f"{text!r} is more than 1 EiB")
    return size


def format_size(size_bytes: int) -> str:
    """The shortest text that :func:`parse_size` reads as ``size_bytes``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit] == 0:
            return f"{size_bytes // _BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def parse_ratio(text: str) -> float:
    """The ratio, 0 to 1, of ``20%`` or ``0.2``.

    Raises:
        Invalid: It is neither a percentage nor a number from 0 to 1.
    """
    stripped = text.strip()
    match = re.fullmatch(_RATIO, stripped)
    if match is not None:
        value = Decimal(match[1]) / 100
    elif _BARE.fullmatch(stripped):
        value = Decimal(stripped)
        if not 0 <= value <= 1:
            raise Invalid(
                f"{stripped} is not between 0 and 1", f"write {stripped}% if a percentage is meant"
            )
    else:
        raise Invalid(f"{text!r} is not a ratio", "write 20%")
    if value > 1:
        raise Invalid(f"{text!r} is more than 100%")
    return float(value)


def format_ratio(ratio: float) -> str:
    """The percentage that :func:`parse_ratio` reads as ``ratio``."""
    return f"{(Decimal(repr(float(ratio))) * 100).normalize():f}%"


def _bare(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _duration(value: Any, info: ValidationInfo) -> float:
    if _bare(value) and not is_from_file(info):
        return float(value)
    if isinstance(value, str) or _bare(value):
        return parse_duration(str(value))
    raise Invalid(f"a duration is text with a unit, not {kind_of(value)}", "write 5s")


def _size(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, int) and _bare(value) and not is_from_file(info):
        return value
    if isinstance(value, str) or _bare(value):
        return parse_size(str(value))
    raise Invalid(f"a size is text with a unit, not {kind_of(value)}", "write 64MiB")


def _ratio(value: Any) -> float:
    if isinstance(value, str) or _bare(value):
        return parse_ratio(str(value))
    raise Invalid(f"a ratio is a percentage, not {kind_of(value)}", "write 20%")


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}
    word = meant.get(str(value).lower(), str(value).lower())
    raise Invalid(
        f"{value!r} is not a boolean; booleans are only true and false",
        f"write {word if word in ('true', 'false') else 'true or false'}",
    )


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise Invalid(f"this is a whole number, not {kind_of(value)}")
    return value


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"{value!r} is not a usable number")
    if not isinstance(value, str | int | float):
        raise Invalid(f"this is text, a number or a boolean, not {kind_of(value)}")
    return value


def kind_of(value: object) -> str:
    """What a value is, in words for a message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"


def _pattern(regex: str, *examples: str) -> WithJsonSchema:
    plain = re.sub(r"\((?!\?)", "(?:", regex)
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^(?:{plain})$|\$\{{",
            "examples": list(examples),
        }
    )


_DURATION_SCHEMA = _pattern(_DURATION, "200ms", "5s", "10m", "1h", "7d")
DurationS = Annotated[
    float, Field(gt=0, le=MAX_DURATION_S), BeforeValidator(_duration), _DURATION_SCHEMA
]
"""A duration of more than nothing, in seconds."""
DurationOrZeroS = Annotated[
    float, Field(ge=0, le=MAX_DURATION_S), BeforeValidator(_duration), _DURATION_SCHEMA
]
"""A duration that may be zero (``0s``), in seconds."""
SizeBytes = Annotated[
    int,
    Field(gt=0, le=MAX_SIZE_BYTES),
    BeforeValidator(_size),
    _pattern(_SIZE, "64MiB", "128MB", "1GiB"),
]
"""A size of more than nothing, in bytes."""
Ratio = Annotated[
    float,
    Field(ge=0, le=1),
    BeforeValidator(_ratio),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": rf"^(?:{_NUMBER} ?%)$|\$\{{"},
            ],
            "examples": ["20%"],
        }
    ),
]
"""A part of a whole, 0 to 1."""
Truth = Annotated[bool, BeforeValidator(_truth)]
"""``true`` or ``false`` and nothing else."""
Count = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
"""A whole number, at least 1."""
Natural = Annotated[int, Field(ge=0, le=2**63 - 1), BeforeValidator(_whole)]
"""A whole number, at least 0, that fits in 64 bits."""
Scalar = Annotated[
    str | int | float | bool,
    PlainValidator(_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
"""Text, a finite number or a boolean, as it was written."""
