"""Named crash points, inert unless ``RAYLAKE_FAULTS`` names a folder.

A harness arms a fault by writing ``<folder>/armed/<point>--<anything>.json`` with
``{"action": "kill" | "stop" | "error" | "delay", "delay_s": …, "skip": n}``. The first process that
reaches the point claims the file by a rename (so a fault fires exactly once, in one process),
writes what was in flight to ``<folder>/fired/`` and acts: SIGKILL or SIGSTOP to itself, an
``OSError``, or a delay. Faults that fired are thereby counted, and a run without any can fail.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

ENV = "RAYLAKE_FAULTS"

POINTS = (
    "consumer.fetched",
    "consumer.writing",
    "consumer.storing",
    "consumer.written",
    "consumer.handing_over",
    "consumer.handed_over",
    "owner.received",
    "owner.before_commit",
    "owner.after_check",
    "owner.after_commit",
    "owner.before_dead_letters",
    "owner.after_dead_letters",
    "dlq.before_commit",
    "dlq.after_commit",
    "evolve.before_commit",
    "evolve.after_commit",
)
"""Those that every run may reach; the chaos tests hit them all."""

COMMAND_POINTS = (
    "rewind.surveyed",
    "replay.written",
    "replay.committed",
    "tables.before_operation",
    "tables.before_commit",
    "tables.after_operation",
    "merge.written",
    "merge.committed",
    "rewrite.written",
    "rewrite.checked",
    "rewrite.proposed",
    "rewrite.before_commit",
    "clone.copying",
    "clone.copied",
    "migrate.copied",
    "transform.before_files",
    "transform.before_commit",
    "transform.after_commit",
    "transform.between_parts",
    "quality.written",
    "quality.before_commit",
    "quality.after_commit",
    "erase.begun",
    "erase.deleted",
    "erase.letters",
    "erase.samples",
    "erase.files",
    "erase.purged",
    "erase.checkpoints",
    "erase.receipt",
    "maintain.aside",
    "maintain.written",
    "maintain.committed",
)
"""Those of commands, and of operations on tables."""

HAND_OVER_POINTS = (
    "consumer.releasing",
    "consumer.released",
    "consumer.granted",
)
"""Those of a partition that changes hands; ``granted`` is reached at each start, too."""

SPARK_POINTS = ("spark.committed",)
"""Those of the Spark host."""


def arm(folder: Path, point: str, *, action: str = "kill", name: str = "", **spec: Any) -> Path:
    """Arm one fault; returns the armed file.

    Args:
        folder: The value of ``RAYLAKE_FAULTS`` in the processes concerned.
        point: One of :data:`POINTS`, :data:`COMMAND_POINTS`, :data:`HAND_OVER_POINTS` or
            :data:`SPARK_POINTS`.
        action: ``kill``, ``stop``, ``error`` or ``delay``.
        name: Distinguishes several faults at one point.
        **spec: ``delay_s`` for ``delay``; ``skip``: let that many passes go by first (per process);
            ``match``: values that must be in flight.

    Raises:
        ValueError: The point is not known.
    """
    if point not in (*POINTS, *COMMAND_POINTS, *HAND_OVER_POINTS, *SPARK_POINTS):
        raise ValueError(f"no crash point is named {point!r}")
    armed = folder / "armed"
    armed.mkdir(parents=True, exist_ok=True)
    (folder / "fired").mkdir(exist_ok=True)
    target = armed / f"{point}--{name or time.time_ns()}.json"
    scratch = folder / f".{target.name}"
    scratch.write_text(json.dumps({"action": action, **spec}))
    scratch.rename(target)
    return target


def fired(folder: Path) -> list[dict[str, Any]]:
    """The faults that hit, oldest first: point, action, pid, time and what was in flight."""
    found = [json.loads(path.read_text()) for path in (folder / "fired").glob("*.json")]
    return sorted(found, key=lambda fault: float(fault["at"]))


_passes: dict[str, int] = {}


def reach(point: str, **in_flight: Any) -> None:
    """Say that execution is at ``point``; acts only where a fault is armed there."""
    root = os.environ.get(ENV)
    if not root:
        return
    folder = Path(root)
    for path in sorted((folder / "armed").glob(f"{point}--*.json")):
        try:
            spec = json.loads(path.read_text())
            if any(in_flight.get(key) != value for key, value in spec.get("match", {}).items()):
                continue
            passes = _passes.get(path.name, 0)
            if passes < int(spec.get("skip", 0)):
                _passes[path.name] = passes + 1
                continue
            claimed = folder / "fired" / f".{path.name}.claimed"
            path.rename(claimed)
        except FileNotFoundError:
            continue
        record = {"point": point, "pid": os.getpid(), "at": time.time(), **spec, **in_flight}
        claimed.write_text(json.dumps(record, default=str))
        claimed.rename(folder / "fired" / path.name)
        _act(point, spec)


def _act(point: str, spec: dict[str, Any]) -> None:
    action = spec["action"]
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        # To the process, another thread may take it and this one go on for a while.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif action == "delay":
        time.sleep(float(spec["delay_s"]))
    else:
        raise OSError(f"injected fault at {point}")
