"""Work of one process on several threads at once: Arrow and NumPy let go of the interpreter."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

MOST_THREADS: Final = 4
"""Of one rewrite: each holds rows in memory."""

Found = TypeVar("Found")


def threads_here() -> int:
    """So many threads a rewrite takes that somebody asked for: the process's CPUs, up to four."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


def together(works: Sequence[Callable[[], Found]], threads: int) -> list[Found]:
    """Do pieces of work, several at a time; what each came to, in their order.

    With one thread they are done here, one after the other. An error is raised once nothing runs
    any more; what had not begun by then is not done.

    Args:
        works: The pieces.
        threads: So many at once.
    """
    if threads < 2 or len(works) < 2:
        return [one() for one in works]
    with ThreadPoolExecutor(min(threads, len(works)), "rewrite") as pool:
        # Each has a copy of its own: one context cannot be entered twice.
        futures = [pool.submit(contextvars.copy_context().run, one) for one in works]
        try:
            return [one.result() for one in futures]
        finally:
            pool.shutdown(cancel_futures=True)
