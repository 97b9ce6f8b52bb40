"""Values that stand above the file: ``RAYLAKE__SECTION__KEY`` and flags (``kafka.bootstrap``).

Text that is a JSON list or mapping becomes one; all other text stays text and is converted by the
field that it is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from raylake.config.findings import Finding, Loc

PREFIX: Final = "RAYLAKE__"


def from_environment(
    data: dict[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Loc, str], list[Finding]]:
    """The data with each ``RAYLAKE__…`` variable put in its place, in the order of their names.

    Keys are matched whatever their case; in the names of tables ``_`` also stands for ``.`` and
    ``-``.

    Returns:
        The data, the places with their variable, and variables that name no place.
    """
    places: dict[Loc, str] = {}
    found = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        segments = name.removeprefix(PREFIX).split("__")
        if not all(segments):
            found.append(Finding((), f"{name} names no key", "write RAYLAKE__SECTION__KEY"))
            continue
        loc = _resolve(data, segments, "__", folded=True)
        data = put(data, loc, _value(environ[name]))
        places[loc] = f"env {name}"
    return data, places, found


def from_flags(
    data: dict[str, Any], flags: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Loc, str], list[Finding]]:
    """The data with each flag (``bronze.orders.topics[0]``) put in its place."""
    places: dict[Loc, str] = {}
    found = []
    for key, text in flags.items():
        segments = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
        if not all(segments):
            found.append(Finding((), f"{key!r} names no key", "write section.key"))
            continue
        loc = _resolve(data, segments, ".", folded=False)
        data = put(data, loc, _value(text))
        places[loc] = "flag"
    return data, places, found


def _resolve(data: Any, segments: Sequence[str], joint: str, *, folded: bool) -> Loc:
    """The place that the segments name; names of tables may hold the joint themselves."""
    loc: list[str | int] = []
    rest = list(segments)
    here = data
    while rest:
        step, used = _step(here, rest, joint, folded=folded)
        loc.append(step)
        rest = rest[used:]
        if isinstance(here, Mapping):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            here = here[step]
        else:
            here = None
    return tuple(loc)


def _step(here: Any, rest: Sequence[str], joint: str, *, folded: bool) -> tuple[str | int, int]:
    if isinstance(here, list) and re.fullmatch(r"[0-9]{1,6}", rest[0]) and int(rest[0]) < len(here):
        return int(rest[0]), 1
    for used in range(len(rest), 0, -1):
        wanted = joint.join(rest[:used])
        for key in here if isinstance(here, Mapping) else ():
            if key == wanted or (folded and _fold(key) == _fold(wanted)):
                return str(key), used
    return (rest[0].lower() if folded else rest[0]), 1


def _fold(name: str) -> str:
    return re.sub(r"[.-]", "_", name).casefold()


def put(data: Any, loc: Loc, value: Any) -> Any:
    """A copy of the data with the value at a place; missing mappings are made."""
    if not loc:
        return value
    if isinstance(data, list) and isinstance(loc[0], int):
        return [put(v, loc[1:], value) if i == loc[0] else v for i, v in enumerate(data)]
    base = data if isinstance(data, dict) else {}
    return {**base, loc[0]: put(base.get(loc[0]), loc[1:], value)}


def _value(text: str) -> Any:
    if text[:1] not in ("[", "{"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, list | dict) else text
