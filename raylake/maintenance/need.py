"""When a run first needs somebody who looks after its tables: told from what it counts anyway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylake.config.cron import parse_cron
from raylake.config.maintenance import Maintenance


def first_need(
    policy: Maintenance, document: Mapping[str, Any], since_s: float, now_s: float
) -> str:
    """Why upkeep may have something to do; empty: it has not.

    Nothing is read for it. What is told by name is looked at exactly by the upkeep itself.

    Args:
        policy: The pipeline's section.
        document: Its status document.
        since_s: When tables were looked after last, or when the run began; seconds since the epoch.
        now_s: Now.
    """
    for name, shown in (document.get("tables") or {}).items():
        few = policy.compact.small_files
        if name in policy.zorder:
            few = min(few, int(policy.zorder_depth))
        files, commits = int(shown.get("live_files") or 0), int(shown.get("commits") or 0)
        if files > few:
            return f"{name} has {files:,} live files"
        if commits >= policy.checkpoint.commits:
            return f"{name} has {commits:,} commits of this run"
    for cron in (policy.vacuum.schedule, policy.retain.schedule):
        next_ms = parse_cron(cron).next_after(int(since_s * 1000))
        if next_ms is not None and next_ms <= now_s * 1000:
            return f"the schedule {cron!r} has passed"
    return ""
