"""CPU seconds of a process and of all that comes from it: sampled from /proc until they end."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, Self

TICKS = os.sysconf("SC_CLK_TCK")
STEP_S = 0.2
ACTORS = ("PartitionConsumer", "TableOwner", "DeadLetterQueue", "Supervisor")


class _Seen(NamedTuple):
    parent: int
    born: int
    cpu_s: float


class Tree:
    """The tree of one process; a process stays in it when its parent ends before it.

    As a context it is sampled by a thread; or :meth:`sample` is called by hand.

    What a process used after its last sample is missed: at most ``STEP_S`` of each.

    Args:
        pid: The root, which must live.
        user_only: Leave out what the kernel did for it.
    """

    def __init__(self, pid: int, *, user_only: bool = False) -> None:
        self._root = pid
        self._user_only = user_only
        self._spent: dict[tuple[int, int], float] = {}
        self._kinds: dict[tuple[int, int], str] = {}
        self._at: list[float] = []
        self._totals: list[dict[str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_sampling, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _keep_sampling(self) -> None:
        self.sample()
        while not self._over.wait(STEP_S):
            self.sample()

    def sample(self) -> float:
        """Look once; returns the CPU seconds that the tree has used so far."""
        seen = _processes(user_only=self._user_only)
        mine = {pid for pid, _ in self._spent} | {self._root}
        grown = True
        while grown:
            found = {pid for pid, one in seen.items() if one.parent in mine} - mine
            mine |= found
            grown = bool(found)
        for pid in mine & seen.keys():
            key = (pid, seen[pid].born)
            # A number that came back names a stranger, unless its parent is ours.
            if key in self._spent or pid == self._root or seen[pid].parent in mine:
                self._spent[key] = seen[pid].cpu_s
                # One that is about to end has no name any more.
                if self._kinds.get(key) not in ACTORS:
                    self._kinds[key] = "root" if pid == self._root else _kind(pid)
        self._at.append(time.time())
        self._totals.append(self.by_kind())
        return self.total_s

    def cpu_s(self, at: float, kinds: Collection[str] = ()) -> float:
        """CPU seconds used until a moment, between two samples.

        Args:
            at: The moment, seconds since the epoch.
            kinds: Of these kinds of process alone.
        """
        after = min(max(1, bisect_left(self._at, at)), len(self._at) - 1)
        (t0, t1), (b0, b1) = (x[after - 1 : after + 1] for x in (self._at, self._totals))
        c0, c1 = (sum(v for k, v in one.items() if not kinds or k in kinds) for one in (b0, b1))
        return c0 + (c1 - c0) * min(1.0, max(0.0, (at - t0) / (t1 - t0)))

    @property
    def total_s(self) -> float:
        """CPU seconds of everything, to the last sample."""
        return sum(self._totals[-1].values())

    def by_kind(self) -> dict[str, float]:
        """CPU seconds by kind of process."""
        found: dict[str, float] = defaultdict(float)
        for key, spent in self._spent.items():
            found[self._kinds[key]] += spent
        return dict(found)


def _processes(*, user_only: bool) -> dict[int, _Seen]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()
        used = (int(fields[11]) + (0 if user_only else int(fields[12]))) / TICKS
        found[int(folder.name)] = _Seen(int(fields[1]), int(fields[19]), used)
    return found


def _kind(pid: int) -> str:
    try:
        command = Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "Ray, other"
    for actor in ACTORS:
        if f"ray::{actor}" in command:
            return actor
    return "raylet" if "raylet/raylet" in command else "Ray, other"
