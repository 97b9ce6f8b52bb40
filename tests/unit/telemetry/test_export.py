"""What reports become: gauges that are set, counters that survive a replaced process."""

from __future__ import annotations

from dataclasses import dataclass, field

from raylake.delta.table_sizes import TableSizes
from raylake.ingest.owner_state import OwnerState
from raylake.ingest.reports import ConsumerReport
from raylake.ingest.unit import Counts, PartitionState, SourcePartition
from raylake.processes import Usage
from raylake.telemetry.export import MetricsExport, RunReports
from raylake.telemetry.metrics import MemoryMetrics

P0 = SourcePartition("orders", "id", 0)
TABLE = "bronze.orders"
LABELS = {"pipeline": "shop", "table": TABLE}


@dataclass
class Said:
    pid: int = 1
    state: OwnerState = field(default_factory=OwnerState)
    ends: dict[SourcePartition, PartitionState] = field(default_factory=dict)


def at(end: int) -> dict[SourcePartition, PartitionState]:
    return {P0: PartitionState(0, end, Counts(rows=end))}


def consumer(name: str, rows: int, **more: object) -> ConsumerReport:
    counters = {"rows": rows, "dead": 0, "dead_by": {}, "retries": {}, "held_bytes": 10, **more}
    return ConsumerReport(name, tables={TABLE: counters})


def export(*reports: RunReports) -> MemoryMetrics:
    metrics = MemoryMetrics()
    exporter = MetricsExport(metrics, "shop")
    for now, one in enumerate(reports):
        exporter.export(one, float(now))
    return metrics


def test_lag_and_since_when_the_table_is_behind() -> None:
    said = [RunReports(owners={TABLE: Said(ends=at(e))}, kafka_ends={P0: 9}) for e in (9, 9, 4, 4)]
    assert export(*said[:2]).value("raylake_freshness_seconds", **LABELS) == 0
    metrics = export(RunReports(), *said)
    assert metrics.value("raylake_lag_records", **LABELS) == 9 - 4
    assert metrics.value("raylake_freshness_seconds", **LABELS) == 2
    behind_from_the_start = export(*said[2:], said[2])
    assert behind_from_the_start.value("raylake_freshness_seconds", **LABELS) == 2


def test_a_replaced_consumer_counts_on() -> None:
    metrics = export(
        RunReports({"consumer-0": consumer("consumer-0", 5)}),
        RunReports({"consumer-0": consumer("consumer-0", 8)}),
        RunReports({"consumer-1": consumer("consumer-1", 2)}, restarts={"consumer": 1}),
    )
    decoded = {"stage": "decoded", "outcome": "row"}
    assert metrics.value("raylake_records_total", **LABELS, **decoded) == 8 + 2
    assert metrics.value("raylake_restarts_total", pipeline="shop", process="consumer") == 1
    assert metrics.value("raylake_buffered_bytes", **LABELS) == 10


def test_bytes_are_no_longer_buffered_when_no_consumer_holds_any() -> None:
    owners = {TABLE: Said()}
    metrics = export(
        RunReports({"consumer-0": consumer("consumer-0", 5)}, owners), RunReports({}, owners)
    )
    assert metrics.value("raylake_buffered_bytes", **LABELS) == 0


def test_dead_letters_by_reason_and_retries_by_dependency() -> None:
    report = consumer(
        "consumer-0",
        0,
        dead_by={"decode/NotJson": 3, "late/Late": 1},
        retries={"store": {"retries": 4}},
    )
    metrics = export(RunReports({"consumer-0": report}))
    letters = "raylake_dead_letters_total"
    assert metrics.value(letters, **LABELS, stage="decode", reason="NotJson") == 3
    assert metrics.value(letters, **LABELS, stage="late", reason="Late") == 1
    retried = {"dependency": "store", "process": "consumer"}
    assert metrics.value("raylake_retries_total", **LABELS, **retried) == 4


def test_the_worst_breaker_of_a_dependency_is_shown_and_closes_again() -> None:
    poison = f"poison/{TABLE}/orders/id/0"
    opened = ConsumerReport(
        "consumer-0",
        breakers={
            f"{TABLE}/store": {"state": "half_open"},
            poison: {"state": "open"},
            "broker": {"state": "closed"},
        },
    )
    first = RunReports({"consumer-0": opened})
    metrics = export(first)
    states = {d: metrics.value("raylake_breaker_state", pipeline="shop", dependency=d)
              for d in ("broker", "store", "dead_letters", "poison")}  # fmt: skip
    assert states == {"broker": 0, "store": 1, "dead_letters": 0, "poison": 2}
    closed = export(first, RunReports({"consumer-0": ConsumerReport("consumer-0")}))
    assert closed.value("raylake_breaker_state", pipeline="shop", dependency="poison") == 0


def test_the_watermark_in_seconds_and_each_commit_s_duration_once() -> None:
    state = OwnerState(commits=3, commit_durations_s=(0.5, 0.25, 0.125), watermark_ms=7_500)
    said = RunReports(owners={TABLE: Said(state=state)})
    metrics = export(said, said)
    assert metrics.value("raylake_watermark_seconds", **LABELS) == 7.5
    shown = metrics.snapshot()
    assert shown['raylake_commit_seconds_sum{pipeline="shop",table="bronze.orders"}'] == 0.875
    assert shown['raylake_commit_seconds_count{pipeline="shop",table="bronze.orders"}'] == 3


def test_the_part_of_records_that_failed_is_that_of_the_last_minute() -> None:
    metrics = MemoryMetrics()
    exporter = MetricsExport(metrics, "shop")

    def ratio(now_s: float, *found: ConsumerReport) -> float:
        exporter.export(RunReports({one.consumer: one for one in found}, {TABLE: Said()}), now_s)
        return metrics.value("raylake_failure_ratio", **LABELS)

    assert ratio(0.0) == 0
    first = consumer("consumer-0", 30, dead=10)
    assert ratio(1.0, first) == 0.25
    assert ratio(30.0, first, consumer("consumer-1", 40)) == 0.125
    assert ratio(61.0, first, consumer("consumer-1", 40)) == 0
    assert ratio(62.0, first, consumer("consumer-1", 40, dead=3)) == 3 / 43
    assert ratio(200.0, first, consumer("consumer-1", 40, dead=3)) == 0


def test_a_table_s_sizes_and_the_age_of_its_newest_commit_whoever_made_it() -> None:
    letters = {"pipeline": "shop", "table": "dead_letters"}
    measured = TableSizes(9, 4, 400, 2, 50, 12, 600, committed_at_s=1.0)
    said = {TABLE: Said(state=OwnerState(last_commit_at=5.5))}
    sizes = {TABLE: measured, "dead_letters": TableSizes(1, committed_at_s=None)}
    metrics = MemoryMetrics()
    MetricsExport(metrics, "shop").export(RunReports(owners=said, sizes=sizes), 7.0)
    shown = {
        kind: (
            metrics.value("raylake_table_files", **LABELS, kind=kind),
            metrics.value("raylake_table_bytes", **LABELS, kind=kind),
        )
        for kind in ("live", "tombstoned", "log")
    }
    assert shown == {"live": (4, 400), "tombstoned": (2, 50), "log": (12, 600)}
    assert metrics.value("raylake_commit_age_seconds", **LABELS) == 1.5
    assert not [one for one in metrics.snapshot() if "commit_age" in one and "dead_l" in one]
    MetricsExport(metrics, "shop").export(RunReports(sizes={"dead_letters": measured}), 7.0)
    assert metrics.value("raylake_commit_age_seconds", **letters) == 6.0


def test_cpu_of_replaced_processes_counts_on_and_memory_is_that_of_the_living() -> None:
    def used(**of: Usage) -> RunReports:
        return RunReports(usage={("consumer", name): usage for name, usage in of.items()})

    metrics = export(
        used(a=Usage(1, 2.0, 100), b=Usage(2, 1.0, 50)),
        used(a=Usage(1, 2.5, 120), b=Usage(2, 1.0, 50)),
        used(a=Usage(7, 0.25, 30)),
    )
    labels = {"pipeline": "shop", "process": "consumer"}
    assert metrics.value("raylake_process_cpu_seconds_total", **labels) == 2.5 + 1.0 + 0.25
    assert metrics.value("raylake_process_memory_bytes", **labels) == 30


def test_when_a_run_began_and_how_it_ended() -> None:
    metrics = export(RunReports(), RunReports(), RunReports(ended="done"))
    assert metrics.value("raylake_run_started_seconds", pipeline="shop") == 0.0
    ended = [one for one in metrics.snapshot() if one.startswith("raylake_run_ended")]
    assert ended == ['raylake_run_ended_seconds{outcome="done",pipeline="shop"}']
    assert metrics.value("raylake_run_ended_seconds", pipeline="shop", outcome="done") == 2.0


def test_this_process_says_what_it_takes() -> None:
    first = Usage.of_this()
    sum(range(200_000))
    second = Usage.of_this()
    assert first.pid == second.pid
    assert second.cpu_s > first.cpu_s > 0
    assert second.memory_bytes > 1_000_000


def test_how_many_consumers_there_are_and_should_be() -> None:
    metrics = export(RunReports(processes={"running": 1, "wanted": 2}))
    found = [
        metrics.value("raylake_consumer_processes", pipeline="shop", state=state)
        for state in ("running", "wanted")
    ]
    assert found == [1, 2]
