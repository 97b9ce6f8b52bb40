"""Files written anew by Ray tasks, wherever the cluster has room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import psutil
import ray
from ray.exceptions import RayError

from actors.calls import result
from raylake.errors import RayLakeError, Terminal
from raylake.maintenance.writers import Found
from raylake.tables.aside import Aside, Written, write_aside

NICE: Final = 10
"""Ingestion's processes come first where both want the same CPU."""


def write_piece(asked: Aside) -> Written:
    """Write files anew, behind whoever else wants the CPU."""
    process = psutil.Process()
    if process.nice() < NICE:
        process.nice(NICE)
    return write_aside(asked)


class RayWriters:
    """:class:`raylake.maintenance.writers.Writers` on the cluster that this process has joined.

    Args:
        slots: So many pieces at once.
        environment: Variables of the tasks' processes.
    """

    def __init__(self, slots: int, environment: Mapping[str, str]) -> None:
        self.slots = slots
        # With variables of their own the tasks get processes of their own, which stay nice.
        variables = {**environment, "RAYLAKE_UPKEEP": str(os.getpid())}
        task: Any = ray.remote(num_cpus=0, max_retries=0)(write_piece)
        self._task = task.options(scheduling_strategy="SPREAD", runtime_env={"env_vars": variables})
        self._under_way: dict[Any, int] = {}

    def begin(self, key: int, asked: Aside) -> None:
        """See :meth:`raylake.maintenance.writers.Writers.begin`."""
        self._under_way[self._task.remote(asked)] = key

    def ended(self, timeout_s: float) -> list[tuple[int, Found]]:
        """See :meth:`raylake.maintenance.writers.Writers.ended`."""
        ready, _ = ray.wait(list(self._under_way), timeout=timeout_s)
        return [(self._under_way.pop(one), _found(one)) for one in ready]


def _found(ref: Any) -> Found:
    try:
        found: Written = result(ref, None)
    except RayLakeError as error:
        return error
    except RayError as error:
        return Terminal(
            f"a process that wrote files anew is gone: {type(error).__name__}",
            hint="the table is as it was; what it wrote leaves with Vacuum(orphans=True)",
        )
    return found
