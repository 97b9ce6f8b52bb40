"""Consumers that the cluster has not started yet, most often for want of a CPU."""

from __future__ import annotations

from collections.abc import Callable

from raylake.errors import DependencyUnreachable, RayLakeError, Terminal
from raylake.ingest.fleet import News

LEFT_OUT_AFTER_S = 15.0
"""The partitions of a consumer that has not started by then are given to those that have."""
TOLD_AFTER_S = 60.0
GIVE_UP_AFTER_S = 120.0


class Unstarted:
    """Tells of each consumer that does not start, once, and gives up when none ever did."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._any_started = False

    def take(self, news: News, note: Callable[[RayLakeError], None]) -> list[str]:
        """Take what arrived; returns the consumers that nobody should wait for any more.

        Args:
            news: What arrived from the fleet.
            note: Keeps an error for the status document.

        Raises:
            Terminal: No consumer of the run has started within :data:`GIVE_UP_AFTER_S` seconds.
        """
        self._any_started |= bool(news.consumers)
        self._told &= news.waiting.keys()
        for name, waited_s in sorted(news.waiting.items()):
            if waited_s >= GIVE_UP_AFTER_S and not self._any_started:
                raise Terminal(
                    f"no consumer has started within {GIVE_UP_AFTER_S:.0f} s: "
                    "the cluster has no free CPU for one",
                    hint="give the cluster more CPUs (each consumer takes one), "
                    "or lower ingest.consumers",
                )
            if waited_s >= TOLD_AFTER_S and name not in self._told:
                self._told.add(name)
                note(_no_cpu(name))
        return sorted(n for n, waited_s in news.waiting.items() if waited_s >= LEFT_OUT_AFTER_S)


def _no_cpu(name: str) -> DependencyUnreachable:
    return DependencyUnreachable(
        f"no free CPU for {name}: it has not started within {TOLD_AFTER_S:.0f} s; "
        "the consumers that run read its partitions",
        hint="give the cluster more CPUs (each consumer takes one), or lower ingest.consumers",
    )
