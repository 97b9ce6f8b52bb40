"""What a run says of itself: the status document's content (DESIGN §9)."""

from __future__ import annotations

from typing import Any

from raylake import __version__
from raylake.config import values_of
from raylake.ingest.plan import TablePlan
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.retry import add_up
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.unit import PartitionState, SourcePartition, partition_names, sum_counts


def document(loop: SupervisorLoop, job: dict[str, Any], now_s: float) -> dict[str, Any]:
    """The document.

    Args:
        loop: The supervisor's loop.
        job: How the run was started: ``kind``, ``host``, ``pid`` …; no secret.
        now_s: Now, seconds since the epoch.
    """
    outcome = loop.outcome
    error = outcome.error if outcome is not None else None
    return {
        "pipeline": loop.run.config.pipeline,
        "run_id": loop.run.run_id,
        "version": __version__,
        "at": now_s,
        "state": loop.state,
        "config": {
            "path": loop.run.config_path,
            "sha256": loop.run.config_sha256,
            "values": values_of(loop.run.config),
        },
        "job": job,
        "available_now": loop.run.available_now,
        "tends": loop.run.tends,
        "tables": {name: _table(loop, name) for name in loop.tables.plans},
        "waiting": loop.tables.waiting.why,
        "consumers": {name: _consumer(report) for name, report in sorted(_reports(loop).items())},
        "scaling": loop.sizing.status(),
        "stopped": {str(s): e.to_dict() for s, e in sorted(loop.stopped.items())},
        "restarts": dict(loop.restarts),
        "errors": list(loop.troubles.errors),
        "dead_letters": loop.run.dead_letters,
        "ends_at": loop.topics.ends_at_s,
        "error": None if error is None else error.to_dict(),
        "retries": _retries(loop),
    }


def _retries(loop: SupervisorLoop) -> dict[str, dict[str, int]]:
    """What the supervisor and the processes that report tried again, by dependency (SPEC B1)."""
    found = [loop.retries.snapshot(), *(owner.state.retries for owner in loop.owners.values())]
    for report in loop.crew.reports.values():
        found += [report.retries, *(table["retries"] for table in report.tables.values())]
    return add_up(found)


def _table(loop: SupervisorLoop, name: str) -> dict[str, Any]:
    plan = loop.tables.plans[name]
    report = loop.owners.get(name)
    shown: dict[str, Any] = {
        "path": plan.path,
        "table_id": loop.tables.views[name].table_id,
        "topics": sorted({s.topic for s in plan.sources}),
    }
    if report is None:
        return shown
    state = report.state
    ends: dict[SourcePartition, PartitionState] = dict(report.ends)
    newest = _newest(ends, plan)
    names = partition_names(newest)
    totals = sum_counts(end.totals for end in ends.values())
    counters = [r.tables.get(name, {}) for r in loop.crew.reports.values()]
    return {
        **shown,
        "version": state.version,
        "epoch": report.epoch,
        "owner_pid": report.pid,
        "commits": state.commits,
        "files": state.files,
        "live_files": state.live_files,
        "units_refused": state.units_refused,
        "last_commit_at": state.last_commit_at,
        "watermark_ms": state.watermark_ms,
        "waiting_units": state.waiting_units,
        "oldest_waiting_at": state.oldest_waiting_at,
        "pending_dead_letters": state.pending_dead_letters,
        "breakers": state.breakers,
        "retries": state.retries,
        "error": state.error,
        "last_refusal": state.last_refusal,
        "checkpoint_error": state.checkpoint_error,
        "totals": {
            "rows": totals.rows,
            "dead": totals.dead,
            "absent": totals.absent,
            "lost": totals.lost,
            "dropped": totals.dropped,
        },
        "held_bytes": sum(c.get("held_bytes", 0) for c in counters),
        "partitions": {
            names[source]: {
                "next": end.next,
                "origin": end.origin,
                "target": loop.targets.get(source),
                "end": loop.topics.stable_ends.get(source),
                "blocked_by_open_transaction": _blocked(loop, source, end.next),
                "max_event_ms": end.max_event_ms,
            }
            for source, end in newest.items()
        },
    }


def _blocked(loop: SupervisorLoop, source: SourcePartition, reached: int) -> bool:
    """Whether only an open transaction keeps records back (FAILURES 8)."""
    seen = loop.topics
    stable = seen.stable_ends.get(source)
    return stable is not None and reached >= stable and seen.high_ends.get(source, 0) > stable


def _newest(
    ends: dict[SourcePartition, PartitionState], plan: TablePlan
) -> dict[SourcePartition, PartitionState]:
    """The ends without those of topics that were created again since."""
    read = {(source.topic, source.partition) for source in plan.sources}
    return {
        source: end
        for source, end in sorted(ends.items())
        if source in plan.sources or (source.topic, source.partition) not in read
    }


def _reports(loop: SupervisorLoop) -> dict[str, ConsumerReport]:
    waiting = {name: ConsumerReport(name, "not started") for name in loop.crew.unstarted}
    return waiting | loop.crew.reports


def _consumer(report: Any) -> dict[str, Any]:
    return {
        "state": report.state,
        "pid": report.pid,
        "partitions": {str(s): offset for s, offset in report.positions.items()},
        "budget": report.budget,
        "retries": report.retries,
        "breakers": report.breakers,
        "tables": report.tables,
        "error": report.error,
    }
