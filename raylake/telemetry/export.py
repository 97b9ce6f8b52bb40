"""From what the processes of a run report to metrics: no call of ours stands in a hot path.

The supervisor hears every report; so a metric needs no label for a process, and the ledger's
totals, which the owners report, are told exactly, whoever was killed in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from raylake.delta.table_sizes import TableSizes
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.unit import PartitionState, SourcePartition, sum_counts
from raylake.processes import Usage
from raylake.telemetry.metrics import Labels, Metrics
from raylake.telemetry.spec import BREAKER_STATES

DEPENDENCIES = ("broker", "store", "dead_letters")
POISON = "poison"
ALL_TABLES = "all"
"""The label ``table`` of what concerns no table alone."""
FAILURE_WINDOW_S = 60.0
"""The failure ratio is that of the records of so long."""


class OwnerSaid(Protocol):
    """What an owner reports."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def state(self) -> OwnerState:
        """Its loop's state."""
        ...

    @property
    def ends(self) -> Mapping[SourcePartition, PartitionState]:
        """Where its table stands."""
        ...


@dataclass(frozen=True, slots=True)
class RunReports:
    """The newest reports of a run.

    Attributes:
        consumers: Of each consumer, by name; a name is never used twice in a run.
        owners: Of each table's owner, by table.
        restarts: How many processes were replaced, by kind.
        kafka_ends: The last stable ends as last seen.
        usage: What processes take, by kind and name.
        sizes: How large tables are, the dead-letter table among them.
        ended: The run's outcome; empty while it goes on.
        processes: How many consumers there are, by state.
    """

    consumers: Mapping[str, ConsumerReport] = field(default_factory=dict)
    owners: Mapping[str, OwnerSaid] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    kafka_ends: Mapping[SourcePartition, int] = field(default_factory=dict)
    usage: Mapping[tuple[str, str], Usage] = field(default_factory=dict)
    sizes: Mapping[str, TableSizes] = field(default_factory=dict)
    ended: str = ""
    processes: Mapping[str, int] = field(default_factory=dict)


class FailureRatio:
    """The part of a table's records that could not become rows, over the last minute."""

    def __init__(self) -> None:
        self._grown: deque[tuple[float, float, float]] = deque()

    def add(self, now_s: float, rows: float, dead: float) -> float:
        """Count what is new; returns the part."""
        if rows or dead:
            self._grown.append((now_s, rows, dead))
        while self._grown and self._grown[0][0] <= now_s - FAILURE_WINDOW_S:
            self._grown.popleft()
        failed = sum(dead for _, _, dead in self._grown)
        every = failed + sum(rows for _, rows, _ in self._grown)
        return failed / every if every else 0.0


class MetricsExport:
    """Turns reports into samples; counters grow by what is new. Not thread-safe.

    Args:
        metrics: Where samples go.
        pipeline: The pipeline.
    """

    def __init__(self, metrics: Metrics, pipeline: str) -> None:
        self._metrics = metrics
        self._pipeline = pipeline
        self._seen: dict[tuple[Any, ...], float] = {}
        self._fresh_at: dict[str, float] = {}
        self._failures: dict[str, FailureRatio] = {}
        self._started_s: float | None = None

    def export(self, reports: RunReports, now_s: float) -> None:
        """Export what is new.

        Args:
            reports: The newest reports.
            now_s: Now, seconds since the epoch.
        """
        buffered = dict.fromkeys(reports.owners, 0)
        decoded: dict[str, dict[str, float]] = {table: {} for table in reports.owners}
        for report in reports.consumers.values():
            self._retries(ALL_TABLES, "consumer", report.consumer, report.retries)
            for table, counters in report.tables.items():
                new = self._consumer(report.consumer, table, counters)
                of_table = decoded.setdefault(table, {})
                for outcome, amount in new.items():
                    of_table[outcome] = of_table.get(outcome, 0.0) + amount
                buffered[table] = buffered.get(table, 0) + counters["held_bytes"]
        for table, nbytes in buffered.items():
            self._metrics.set("raylake_buffered_bytes", nbytes, self._of(table))
        for table, said in reports.owners.items():
            self._owner(table, said)
            self._lag(table, said.ends, reports.kafka_ends, now_s)
        self._breakers(reports)
        for process, count in reports.restarts.items():
            labels = {"pipeline": self._pipeline, "process": process}
            self._grow("raylake_restarts_total", "run", count, labels)
        for table, grown in decoded.items():
            ratio = self._failures.setdefault(table, FailureRatio())
            part = ratio.add(now_s, grown.get("row", 0.0), grown.get("dead", 0.0))
            self._metrics.set("raylake_failure_ratio", part, self._of(table))
        for state, number in reports.processes.items():
            labels = {"pipeline": self._pipeline, "state": state}
            self._metrics.set("raylake_consumer_processes", number, labels)
        self._sizes(reports, now_s)
        self._usage(reports.usage)
        self._run(reports.ended, now_s)

    def _consumer(self, consumer: str, table: str, counters: Mapping[str, Any]) -> dict[str, float]:
        new = {}
        for outcome, total in (("row", counters["rows"]), ("dead", counters["dead"])):
            labels = self._of(table, stage="decoded", outcome=outcome)
            new[outcome] = self._grow("raylake_records_total", consumer, total, labels)
        for reason, total in counters["dead_by"].items():
            stage, _, name = reason.partition("/")
            labels = self._of(table, stage=stage, reason=name)
            self._grow("raylake_dead_letters_total", consumer, total, labels)
        self._retries(table, "consumer", consumer, counters["retries"])
        return new

    def _owner(self, table: str, said: OwnerSaid) -> None:
        totals = sum_counts(end.totals for end in said.ends.values())
        for outcome, total in (
            ("row", totals.rows),
            ("dead", totals.dead),
            ("absent", totals.absent),
            ("lost", totals.lost),
            ("dropped", totals.dropped),
        ):
            labels = self._of(table, stage="committed", outcome=outcome)
            self._grow("raylake_records_total", "ledger", total, labels)
        state, labels = said.state, self._of(table)
        fresh = self._grow("raylake_commits_total", said.pid, state.commits, labels)
        if fresh:
            for duration_s in state.commit_durations_s[-int(fresh) :]:
                self._metrics.observe("raylake_commit_seconds", duration_s, labels)
        for outcome, count in (
            ("committed", state.units_committed),
            ("refused", state.units_refused),
        ):
            outcomes = self._of(table, outcome=outcome)
            self._grow("raylake_units_total", said.pid, count, outcomes)
        self._retries(table, "owner", said.pid, state.retries)
        if state.watermark_ms is not None:
            self._metrics.set("raylake_watermark_seconds", state.watermark_ms / 1000, labels)

    def _retries(
        self, table: str, process: str, of: object, counts: Mapping[str, Mapping[str, Any]]
    ) -> None:
        for dependency, count in counts.items():
            labels = self._of(table, dependency=dependency, process=process)
            self._grow("raylake_retries_total", of, count["retries"], labels)

    def _lag(
        self,
        table: str,
        ends: Mapping[SourcePartition, PartitionState],
        kafka_ends: Mapping[SourcePartition, int],
        now_s: float,
    ) -> None:
        lag = sum(max(0, kafka_ends.get(s, end.next) - end.next) for s, end in ends.items())
        if lag == 0:
            self._fresh_at[table] = now_s
        stale_s = now_s - self._fresh_at.setdefault(table, now_s)
        self._metrics.set("raylake_lag_records", lag, self._of(table))
        self._metrics.set("raylake_freshness_seconds", stale_s, self._of(table))

    def _breakers(self, reports: RunReports) -> None:
        worst = dict.fromkeys((*DEPENDENCIES, POISON), 0)
        found = [r.breakers for r in reports.consumers.values()]
        found += [said.state.breakers for said in reports.owners.values()]
        for breakers in found:
            for name, snapshot in breakers.items():
                own = name.rsplit("/", 1)[-1]
                dependency = own if own in DEPENDENCIES else POISON
                state = BREAKER_STATES[snapshot["state"]]
                worst[dependency] = max(worst[dependency], state)
        for dependency, state in worst.items():
            labels = {"pipeline": self._pipeline, "dependency": dependency}
            self._metrics.set("raylake_breaker_state", state, labels)

    def _sizes(self, reports: RunReports, now_s: float) -> None:
        for table, size in reports.sizes.items():
            for kind, files, nbytes in (
                ("live", size.live_files, size.live_bytes),
                ("tombstoned", size.tombstoned_files, size.tombstoned_bytes),
                ("log", size.log_files, size.log_bytes),
            ):
                labels = self._of(table, kind=kind)
                self._metrics.set("raylake_table_files", files, labels)
                self._metrics.set("raylake_table_bytes", nbytes, labels)
        committed = {
            name: said.state.last_commit_at or 0.0 for name, said in reports.owners.items()
        }
        for table in {*committed, *reports.sizes}:
            measured = reports.sizes.get(table)
            of_log = measured.committed_at_s if measured is not None else None
            newest_s = max(committed.get(table, 0.0), of_log or 0.0)
            if newest_s:
                age_s = max(0.0, now_s - newest_s)
                self._metrics.set("raylake_commit_age_seconds", age_s, self._of(table))

    def _usage(self, usage: Mapping[tuple[str, str], Usage]) -> None:
        memory: dict[str, int] = {}
        for (kind, name), taken in usage.items():
            labels = {"pipeline": self._pipeline, "process": kind}
            of = (name, taken.pid)
            self._grow("raylake_process_cpu_seconds_total", of, taken.cpu_s, labels)
            memory[kind] = memory.get(kind, 0) + taken.memory_bytes
        for kind, nbytes in memory.items():
            labels = {"pipeline": self._pipeline, "process": kind}
            self._metrics.set("raylake_process_memory_bytes", nbytes, labels)

    def _run(self, ended: str, now_s: float) -> None:
        if self._started_s is None:
            self._started_s = now_s
            self._metrics.set("raylake_run_started_seconds", now_s, {"pipeline": self._pipeline})
        if ended:
            labels = {"pipeline": self._pipeline, "outcome": ended}
            self._metrics.set("raylake_run_ended_seconds", now_s, labels)

    def _grow(self, name: str, of: object, total: float, labels: Labels) -> float:
        """Let a counter grow by what a process's total grew; returns by how much."""
        key = (name, of, *sorted(labels.items()))
        amount = total - self._seen.get(key, 0)
        if amount > 0 or key not in self._seen:
            self._seen[key] = total
            self._metrics.add(name, max(0.0, amount), labels)
        return max(0.0, amount)

    def _of(self, table: str, **labels: str) -> dict[str, str]:
        return {"pipeline": self._pipeline, "table": table, **labels}
