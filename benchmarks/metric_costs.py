"""What metrics cost: counting each fetched batch, and exporting the totals.

A consumer's and an owner's classes ingest a topic in this process, and each call that counts a
batch is timed. Then the supervisor's export of their last reports is, into all three of its sinks:
it is done once in ``STATUS_INTERVAL_S``, whatever the load, and divided among the batches fetched
meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median
from typing import Any
from unittest.mock import patch

import ray
from bare import ingest_here
from bed import bed, closing, options, table

from actors.metrics import RayMetrics
from actors.supervisor import STATUS_INTERVAL_S
from raylake.delta.table_sizes import TableSizes
from raylake.ingest.consumer import ConsumerLoop
from raylake.ingest.feed import FeedCounters
from raylake.ingest.reports import ConsumerReport
from raylake.processes import Usage
from raylake.telemetry.export import MetricsExport, RunReports
from raylake.telemetry.metrics import Both, MemoryMetrics
from raylake.telemetry.prometheus import PrometheusMetrics

AIM_MS, AIM_SHARE = 1.0, 0.01
EXPORTS = 200


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("metric", chosen) as made:
        topic = made.topic()
        made.load(topic, chosen.count, bad=chosen.bad)
        made.pipeline(topic)
        took: list[float] = []
        reports: list[ConsumerReport] = []
        count, report = FeedCounters.count, ConsumerLoop.report

        def timed(counters: FeedCounters, *arguments: Any) -> None:
            began = time.perf_counter()
            count(counters, *arguments)
            took.append(time.perf_counter() - began)

        def kept(loop: ConsumerLoop) -> ConsumerReport:
            reports[:] = [report(loop)]
            return reports[0]

        with patch.object(FeedCounters, "count", timed), patch.object(ConsumerLoop, "report", kept):
            figures = ingest_here(made, made.folder / "bare", chosen.count)
        export_s = _export_s(reports[0])
    exports = figures.seconds / STATUS_INTERVAL_S
    per_batch_ms = 1000 * (sum(took) + exports * export_s) / len(took)
    share = (sum(took) + exports * export_s) / (figures.cpu_s + exports * export_s)
    rows = [
        ["counting a batch, median", 1000 * median(took)],
        ["counting a batch, most", 1000 * max(took)],
        ["an export", 1000 * export_s],
    ]
    table(rows, ["what", "ms"])
    closing("metric_costs", batches=len(took), per_batch_ms=per_batch_ms, cpu_percent=100 * share)
    return int(per_batch_ms > AIM_MS or share > AIM_SHARE)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--bad", type=float, default=0.01, help="share of bad records")


def _export_s(report: ConsumerReport) -> float:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    export = MetricsExport(Both(MemoryMetrics(), Both(RayMetrics(), PrometheusMetrics())), "bench")
    took = []
    sizes = {table: TableSizes(1, committed_at_s=0.0) for table in report.tables}
    for number in range(EXPORTS):
        for counters in report.tables.values():
            # Else nothing has grown since the export before.
            counters["rows"] += 1000
        usage = {("consumer", report.consumer): Usage(1, float(number), number)}
        said = RunReports({report.consumer: report}, usage=usage, sizes=sizes)
        began = time.perf_counter()
        export.export(said, float(number))
        took.append(time.perf_counter() - began)
    ray.shutdown()
    return median(took)


if __name__ == "__main__":
    sys.exit(main())
