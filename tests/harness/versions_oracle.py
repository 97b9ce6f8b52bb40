"""Versions by the rules of SCD type 2, folded from all changes at once in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def expected_versions(
    changes: Iterable[Row],
    keys: Sequence[str],
    sequence: Sequence[str],
    tracked: Sequence[str],
    values: Sequence[str],
    deletes: Callable[[Row], bool],
) -> list[dict[str, Any]]:
    """The rows that a table of versions shows, without those of empty intervals."""
    states: dict[tuple[Any, ...], dict[Any, Row]] = {}
    for change in changes:
        times = states.setdefault(tuple(change[key] for key in keys), {})
        known = times.get(change[sequence[0]])
        if known is None or _rank(change, sequence, values, deletes) > _rank(
            known, sequence, values, deletes
        ):
            times[change[sequence[0]]] = change
    rows: list[dict[str, Any]] = []
    for key, times in states.items():
        current: dict[str, Any] | None = None
        for time in sorted(times):
            change = times[time]
            gone = deletes(change)
            same = current is not None and all(_same(current[n], change[n]) for n in tracked)
            if current is not None and (gone or not same):
                current |= {"valid_to": time, "is_current": False}
                current = None
            if gone:
                continue
            if current is None:
                current = {**dict(zip(keys, key, strict=True)), "valid_from": time}
                current |= {"valid_to": None, "is_current": True}
                rows.append(current)
            current |= {name: change[name] for name in values}
    return rows


def _same(left: Any, right: Any) -> bool:
    return _order(left) == _order(right)


def _order(value: Any) -> tuple[Any, ...]:
    """No value first, then NaN, then by value; what is nested by how it is written."""
    if value is None:
        return (0,)
    if isinstance(value, float) and math.isnan(value):
        return (1,)
    return (2, repr(value) if isinstance(value, list | dict | bool) else value)


def _rank(
    change: Row, sequence: Sequence[str], values: Sequence[str], deletes: Callable[[Row], bool]
) -> tuple[Any, ...]:
    rest = tuple(_order(change[name]) for name in sequence[1:])
    if deletes(change):
        return (*rest, True)
    return (*rest, False, *(_order(change[name]) for name in values))
