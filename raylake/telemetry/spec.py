"""Every metric of RayLake, declared once (DESIGN §9).

Names are ``raylake_<noun>_<unit>``; counters end in ``_total``. No metric has a label for a
partition or for a process: what is that fine-grained is in the status document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

COMMIT_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
UPKEEP_BUCKETS_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: Its name.
        kind: A counter only grows; a gauge is set; a histogram counts observations by size.
        help: What it says, with its unit.
        labels: The names of its labels; each sample has all of them.
        buckets: Upper bounds of a histogram.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()

    def check(self, kind: Kind, labels: Mapping[str, str]) -> None:
        """Hold a sample to the declaration.

        Raises:
            ValueError: Another kind, or other labels.
        """
        if kind != self.kind or tuple(sorted(labels)) != tuple(sorted(self.labels)):
            raise ValueError(
                f"{self.name} is a {self.kind} with the labels {self.labels}, "
                f"not a {kind} with {tuple(sorted(labels))}"
            )


_TABLE = ("pipeline", "table")

METRICS: Final = (
    MetricSpec(
        "raylake_records_total",
        "counter",
        "Kafka offsets by stage (decoded: taken by consumers since the run began, those that are "
        "read again after a failure included; committed: the ledger's running totals) and outcome "
        "(row, dead, absent, lost, dropped).",
        (*_TABLE, "stage", "outcome"),
    ),
    MetricSpec(
        "raylake_dead_letters_total",
        "counter",
        "Records that consumers made dead letters since the run began, by stage and reason class.",
        (*_TABLE, "stage", "reason"),
    ),
    MetricSpec(
        "raylake_dead_letters_forwarded_total",
        "counter",
        "Dead letters that a further target (kafka, files) has taken; those that came again count "
        "again.",
        ("pipeline", "target"),
    ),
    MetricSpec(
        "raylake_dead_letters_waiting_files",
        "gauge",
        "Files of dead letters that a further target (kafka, files) has not taken yet.",
        ("pipeline", "target"),
    ),
    MetricSpec(
        "raylake_failure_ratio",
        "gauge",
        "Of the records that consumers decoded in the last minute, the part that became dead "
        "letters, 0 to 1; 0 when there were none.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_lag_records",
        "gauge",
        "Offsets between the last stable ends in Kafka and the table, over all partitions.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_freshness_seconds",
        "gauge",
        "Since when the table lacks something that Kafka has; 0 when it lacks nothing.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_watermark_seconds",
        "gauge",
        "The table's watermark, seconds since the epoch.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_commit_seconds",
        "histogram",
        "Duration of a data commit: refresh, check, write, sync.",
        _TABLE,
        COMMIT_BUCKETS_S,
    ),
    MetricSpec(
        "raylake_commits_total",
        "counter",
        "Data commits of the owners of this run.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_units_total",
        "counter",
        "Units handed over, by outcome (committed, refused).",
        (*_TABLE, "outcome"),
    ),
    MetricSpec(
        "raylake_buffered_bytes",
        "gauge",
        "Bytes that consumers hold and that are not committed.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_retries_total",
        "counter",
        "Operations tried again, by dependency (broker, store, dead_letters, conflicts) and who "
        "(consumer, owner); the broker's are of table 'all'.",
        (*_TABLE, "dependency", "process"),
    ),
    MetricSpec(
        "raylake_breaker_state",
        "gauge",
        "The worst breaker of a dependency (broker, store, dead_letters, poison): 0 closed, "
        "1 half-open, 2 open.",
        ("pipeline", "dependency"),
    ),
    MetricSpec(
        "raylake_restarts_total",
        "counter",
        "Processes that were replaced, by kind (consumer, owner, dead_letters).",
        ("pipeline", "process"),
    ),
    MetricSpec(
        "raylake_consumer_processes",
        "gauge",
        "Consumers of the run, by state (running: they have started; wanted: as configured, or as "
        "the lag asks for).",
        ("pipeline", "state"),
    ),
    MetricSpec(
        "raylake_table_bytes",
        "gauge",
        "Size of a table, by kind (live: files of the newest version; tombstoned: removed files "
        "that the log still names; log: the log's folder).",
        (*_TABLE, "kind"),
    ),
    MetricSpec(
        "raylake_table_files",
        "gauge",
        "Files of a table, by kind (live, tombstoned, log).",
        (*_TABLE, "kind"),
    ),
    MetricSpec(
        "raylake_commit_age_seconds",
        "gauge",
        "Since a table's newest commit, whoever made it.",
        _TABLE,
    ),
    MetricSpec(
        "raylake_process_cpu_seconds_total",
        "counter",
        "CPU time of the run's processes, by kind (supervisor, consumer, owner, dead_letters).",
        ("pipeline", "process"),
    ),
    MetricSpec(
        "raylake_process_memory_bytes",
        "gauge",
        "Resident memory of the run's processes, by kind; pages that they share count in each.",
        ("pipeline", "process"),
    ),
    MetricSpec(
        "raylake_run_started_seconds",
        "gauge",
        "When the run began, seconds since the epoch.",
        ("pipeline",),
    ),
    MetricSpec(
        "raylake_run_ended_seconds",
        "gauge",
        "When the run ended, seconds since the epoch, by outcome (done, stopped, failed).",
        ("pipeline", "outcome"),
    ),
    MetricSpec(
        "raylake_table_operations_total",
        "counter",
        "Operations on tables by the engine that ran them, why it was that one (named, fits, "
        "too_large, only_engine, no_spark, out_of_memory), and outcome (done, or the error's "
        "code).",
        ("operation", "engine", "reason", "outcome"),
    ),
    MetricSpec(
        "raylake_maintenance_debt_ratio",
        "gauge",
        "What a table owes its readers, by part (small_files, zorder, deleted_rows, log, "
        "tombstones, statistics), in thresholds: from 1 on it is due.",
        (*_TABLE, "part"),
    ),
    MetricSpec(
        "raylake_maintenance_bytes_total",
        "counter",
        "Bytes of upkeep, by kind (rewritten: of new files; saved: that the live files, or the "
        "store, have less).",
        (*_TABLE, "kind"),
    ),
    MetricSpec(
        "raylake_maintenance_jobs_total",
        "counter",
        "Actions of upkeep (compact, zorder, vacuum, checkpoint, clean_log) by outcome (done, "
        "nothing, stopped, failed; refused: not begun, since it would bring nothing).",
        (*_TABLE, "action", "outcome"),
    ),
    MetricSpec(
        "raylake_maintenance_seconds",
        "histogram",
        "Duration of an action of upkeep, the time included in which it gave way.",
        (*_TABLE, "action"),
        UPKEEP_BUCKETS_S,
    ),
)
BY_NAME: Final = {spec.name: spec for spec in METRICS}


def declared(name: str) -> MetricSpec:
    """The declaration of a metric.

    Raises:
        ValueError: It is not declared.
    """
    spec = BY_NAME.get(name)
    if spec is None:
        raise ValueError(f"no metric is named {name!r}")
    return spec
