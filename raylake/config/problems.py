"""Problems of a pipeline file as people read them: place, message, line, caret, hint."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from raylake.config.findings import Loc
from raylake.config.positions import Parsed, Position
from raylake.errors import ConfigError

_NAMES: Final = r"pas+w|pwd|passphrase|secret|token|credential|access_?key|api_?key"
_SECRET_KEY: Final = re.compile(_NAMES, re.IGNORECASE)
_USER_INFO: Final = re.compile(r"(?<![^\s/\"',\[{])[^\s/@\"',\[{:]+:[^\s/@\"']+@")
_SHOWN: Final = (
    "protocol",
    "mechanism",
    "username",
    "ca",
    "certificate",
    "check_hostname",
    "allow_password_without_tls",
)
_SECRET_LINE: Final = re.compile(
    rf"((?:{_NAMES})[\w-]*[\"']?\s*[:=]\s*)"
    r"(?!\s*(?:env|file|profile):)(\"[^\"]*\"?|'[^']*'?|[^,}\]#\s][^,}\]#]*)",
    re.IGNORECASE,
)
_MAX_SHOWN: Final = 160
MASK: Final = "***"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        file: The file as it was given, or ``env NAME`` or ``flag`` when the value comes from there.
        line: From 1; 0 when there is no place in a file.
        column: From 1; 0 when there is no place in a file.
        loc: The dotted location, ``bronze.orders.topics[0]``; empty for the file as a whole.
        message: What is wrong.
        hint: What to write instead.
        snippet: The line and a caret under the place; values of secrets are masked.
    """

    file: str
    line: int
    column: int
    loc: str
    message: str
    hint: str = ""
    snippet: str = ""

    def text(self) -> str:
        """The problem in up to four lines."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        head = f"{place}  {self.loc}: {self.message}" if self.loc else f"{place}  {self.message}"
        parts = [head, *self.snippet.splitlines()]
        return "\n".join([*parts, f"  hint: {self.hint}"] if self.hint else parts)


def is_secret(loc: Loc) -> bool:
    """Whether the value at this place may be a secret, going by its key."""
    if len(loc) == 3 and loc[:2] == ("kafka", "security") and loc[2] not in _SHOWN:
        return True
    return bool(loc) and isinstance(loc[-1], str) and _SECRET_KEY.search(loc[-1]) is not None


def snippet(lines: list[str], line: int, column: int) -> str:
    """The line with its number, and a caret under the column; secrets are masked."""
    if not 1 <= line <= len(lines):
        return ""
    shown = _printable(lines[line - 1])
    at = min(column, len(shown) + 1)
    start = max(0, at - _MAX_SHOWN // 2) if len(shown) > _MAX_SHOWN else 0
    gutter = f"  {line:>4} | "
    cut = shown[start : start + _MAX_SHOWN]
    return f"{gutter}{cut}\n{' ' * (len(gutter) - 2)}| {' ' * (at - 1 - start)}^"


def _printable(line: str) -> str:
    line = _USER_INFO.sub(f"{MASK}@", line)
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in line)


def masked(parsed: Parsed) -> list[str]:
    """The file's lines with every value under a secret's key masked, references excepted."""
    lines = list(parsed.lines)
    spans = [
        (position, _at(parsed.data, loc))
        for loc, position in parsed.values.items()
        if _below_secret(loc)
    ]
    # Nobody looked into a duplicate's value: a list or a mapping is masked whole.
    spans += [
        (one.value, "")
        for one in parsed.duplicates
        if not one.is_scalar or _below_secret(one.finding.at)
    ]
    for position, value in sorted(spans, key=lambda s: (s[0].line, s[0].column), reverse=True):
        if isinstance(value, str | int | float) and not _is_reference(value):
            _mask(lines, position)
    return lines


def _below_secret(loc: Loc) -> bool:
    return any(is_secret(loc[: i + 1]) for i in range(len(loc)))


def mask_line(line: str) -> str:
    """A line of a file that could not be parsed, with what looks like a secret masked."""
    return _SECRET_LINE.sub(rf"\1{MASK}", line)


def _is_reference(value: object) -> bool:
    return re.match(r"(env:[A-Za-z_]|file:/|profile:\w)", str(value)) is not None


def _mask(lines: list[str], position: Position) -> None:
    for number in range(position.line, min(position.end_line, len(lines)) + 1):
        text = lines[number - 1]
        start = position.column - 1 if number == position.line else 0
        end = position.end_column - 1 if number == position.end_line else len(text)
        if end > start:
            lines[number - 1] = text[:start] + MASK + text[end:]


def _at(data: Any, loc: Loc) -> Any:
    for part in loc:
        if isinstance(data, Mapping):
            data = data.get(str(part))
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def place_of(parsed: Parsed, loc: Loc, *, on_key: bool) -> Position | None:
    """Where a location stands: itself, or the nearest thing around it that is in the file."""
    for end in range(len(loc), 0, -1):
        part = loc[:end]
        if (on_key or end < len(loc)) and part in parsed.keys:
            return parsed.keys[part]
        if part in parsed.values:
            return parsed.values[part]
    return Position(1, 1, 1, 1) if loc else None


def config_error(name: str, problems: Iterable[Problem]) -> ConfigError:
    """One error that lists all problems, in the order of the file."""
    seen: dict[tuple[str, int, str, str], Problem] = {}
    for problem in problems:
        seen.setdefault((problem.file, problem.line, problem.loc, problem.message), problem)
    # Without a place in the file first: they are about all of it.
    ordered = sorted(seen.values(), key=lambda p: (p.line, p.column))
    count = f"{len(ordered)} problems" if len(ordered) != 1 else "1 problem"
    body = "\n".join(problem.text() for problem in ordered)
    return ConfigError(
        f"{name} has {count}\n{body}", problems=[dataclasses.asdict(p) for p in ordered]
    )
