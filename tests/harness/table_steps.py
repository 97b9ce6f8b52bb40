"""Steps of a table's life, and what a plain dictionary says that they come to."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import strategies as st

from raylake.tables.requests import (
    Append,
    Delete,
    DeleteUnmatched,
    Overwrite,
    Restore,
    Update,
    Upsert,
    Write,
)
from tests.harness.tables import Table, orders

State = dict[int, int]
"""Amounts by id."""
Step = tuple[str, int, int]
"""What is done, and two numbers that say to what."""
Made = tuple[Write, State]


def _append(states: Sequence[State], a: int, b: int) -> Made:
    start = 100 * len(states) + 1000
    new = dict.fromkeys(range(start, start + a % 4 + 1), b)
    return Append(orders(new, b)), states[-1] | new


def _upsert(states: Sequence[State], a: int, b: int) -> Made:
    source = dict.fromkeys(range(a, a + 4), b)
    return Upsert(orders(source, b), ("id",)), states[-1] | source


def _insert(states: Sequence[State], a: int, b: int) -> Made:
    source = dict.fromkeys(range(a, a + 6), b)
    return Upsert(orders(source, b), ("id", "region"), insert_only=True), source | states[-1]


def _take_out(states: Sequence[State], a: int, b: int) -> Made:
    kept = {n: v for n, v in states[-1].items() if n < 20 or n == a}
    unmatched = DeleteUnmatched("target.id >= 20")
    return Upsert(orders([a], b), ("id",), not_matched_by_source=unmatched), kept | {a: b}


def _delete(states: Sequence[State], a: int, b: int) -> Made:
    return (
        Delete(f"id % 7 = {a % 7} or amount = {b}"),
        {n: v for n, v in states[-1].items() if n % 7 != a % 7 and v != b},
    )


def _update(states: Sequence[State], a: int, b: int) -> Made:
    where = f"id < {a * 3}"
    changed = {n: v % 50 * 2 + b for n, v in states[-1].items() if n < a * 3}
    return Update({"amount": f"amount % 50 * 2 + {b}"}, where=where), states[-1] | changed


def _overwrite(states: Sequence[State], a: int, b: int) -> Made:
    new = dict.fromkeys(range(b), a)
    return Overwrite(orders(new, a)), new


def _replace(states: Sequence[State], a: int, b: int) -> Made:
    new = dict.fromkeys(range(a, a + 2), b)
    kept = {n: v for n, v in states[-1].items() if not a <= n < a + 10}
    return Overwrite(orders(new, b), where=f"id >= {a} and id < {a + 10}"), kept | new


def _restore(states: Sequence[State], a: int, b: int) -> Made:
    version = (a * 31 + b) % len(states)
    return Restore(version=version), states[version]


KINDS: dict[str, Callable[[Sequence[State], int, int], Made]] = {
    "append": _append,
    "upsert": _upsert,
    "insert": _insert,
    "take out": _take_out,
    "delete": _delete,
    "update": _update,
    "overwrite": _overwrite,
    "replace": _replace,
    "restore": _restore,
}
STEPS = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 12), st.integers(1, 9))


def play(tables: Sequence[Table], states: list[State], steps: Sequence[Step]) -> None:
    """Take steps, each table's engine in turn; ``states`` gets what each version is to hold."""
    for at, (kind, a, b) in enumerate(steps):
        operation, after = KINDS[kind](states, a, b)
        result = tables[at % len(tables)].do(operation)
        if result.changed:
            states.append(after)
        assert after == states[-1], (kind, a, b)
        assert result.version_after == len(states) - 1, (kind, a, b)


def made_long_ago(path: Path, days: int = 30) -> None:
    """Let everything in a table's folder, and in its log, look so old."""
    stamp = int((dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).timestamp())
    for file in path.rglob("*"):
        if file.suffix == ".json" and file.stem.isdigit():
            actions = [json.loads(line) for line in file.read_text().splitlines()]
            for one in actions:
                if "commitInfo" in one:
                    one["commitInfo"]["timestamp"] = stamp * 1000 + int(file.stem)
                if "remove" in one:
                    one["remove"]["deletionTimestamp"] = stamp * 1000
            file.write_text("".join(json.dumps(one) + "\n" for one in actions))
        if file.is_file():
            os.utime(file, (stamp, stamp))
