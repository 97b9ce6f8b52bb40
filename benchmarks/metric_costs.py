"""What metrics and spans cost: counting each fetched batch, exporting the totals, tracing the way.

A consumer's and an owner's classes ingest a topic in this process, and each call that counts a
batch is timed. Then the supervisor's export of their last reports is, into all four of its sinks:
it is done once in ``STATUS_INTERVAL_S``, whatever the load, and divided among the batches fetched
meanwhile. All of it is done twice, without and with spans; every record has a ``traceparent``
header, and the spans are written as OTLP has them, but not sent.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import ray
from bare import Figures, ingest_here
from bed import Bed, bed, closing, options, table
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from actors.metrics import RayMetrics
from actors.supervisor import STATUS_INTERVAL_S
from raylake.clock import SystemClock
from raylake.config.observing import CloudWatch, Tracing
from raylake.delta.table_sizes import TableSizes
from raylake.ingest import trail
from raylake.ingest.consumer import ConsumerLoop
from raylake.ingest.feed import FeedCounters
from raylake.ingest.reports import ConsumerReport
from raylake.processes import Usage
from raylake.telemetry import tracing
from raylake.telemetry.cloudwatch import CloudWatchTarget
from raylake.telemetry.export import MetricsExport, RunReports
from raylake.telemetry.metrics import Both, MemoryMetrics
from raylake.telemetry.prometheus import PrometheusMetrics

AIM_MS, AIM_SHARE = 1.0, 0.01
EXPORTS = 200


@dataclass(slots=True)
class Costs:
    """What one ingest took; times in seconds.

    Attributes:
        counting: Of each batch.
        tracing: Of each call that may make or end a span, or look for headers.
        sending: Of each write of finished spans, in a thread of its own.
        reports: The consumer's last report.
        figures: Of the ingest.
    """

    counting: list[float] = field(default_factory=list)
    tracing: list[float] = field(default_factory=list)
    sending: list[float] = field(default_factory=list)
    reports: list[ConsumerReport] = field(default_factory=list)
    figures: Figures = field(default_factory=lambda: Figures(0, 0.0, 0.0, 0.0))

    @property
    def tracing_ms(self) -> float:
        """Of a batch, all threads."""
        return 1000 * (sum(self.tracing) + sum(self.sending)) / len(self.counting)

    def metrics_ms(self, export_s: float) -> float:
        """Of a batch."""
        exports = self.figures.seconds / STATUS_INTERVAL_S
        return 1000 * (sum(self.counting) + exports * export_s) / len(self.counting)

    def percent(self, ms: float) -> float:
        """The part of the CPU that so much for each batch is."""
        return ms * len(self.counting) / 10 / self.figures.cpu_s


class Written(SpanExporter):
    """Writes spans as an exporter over OTLP does, and lets them go."""

    def __init__(self, took: list[float]) -> None:
        self._took = took

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write them."""
        began = time.thread_time()
        encode_spans(spans).SerializePartialToString()
        self._took.append(time.thread_time() - began)
        return SpanExportResult.SUCCESS


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("metric", chosen) as made:
        topic = made.topic()
        made.load(topic, chosen.count, bad=chosen.bad, traceparent=1)
        made.pipeline(topic)
        off = _ingest(made, made.folder / "off", chosen.count)
        written: list[float] = []
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(Written(written)))
        tracing.use(tracing.Spans(provider, Tracing().links))
        on = _ingest(made, made.folder / "on", chosen.count)
        tracing.end()
        tracing.use(None)
        on.sending = written
        export_s = _export_s(off.reports[0])
    return _tell(off, on, export_s)


def _tell(off: Costs, on: Costs, export_s: float) -> int:
    rows = [
        ["counting a batch, median", 1000 * median(off.counting)],
        ["counting a batch, most", 1000 * max(off.counting)],
        ["an export", 1000 * export_s],
        ["a call that may make a span, median, off", 1000 * median(off.tracing)],
        ["the same, on", 1000 * median(on.tracing)],
        ["the same, most", 1000 * max(on.tracing)],
    ]
    table(rows, ["what", "ms"])
    per_batch_ms = off.metrics_ms(export_s)
    told = {
        "batches": len(off.counting),
        "per_batch_ms": per_batch_ms,
        "cpu_percent": off.percent(per_batch_ms),
        "tracing_off_ms": off.tracing_ms,
        "tracing_on_ms": on.tracing_ms,
        "tracing_on_cpu_percent": on.percent(on.tracing_ms),
    }
    closing("metric_costs", **told)
    all_ms = per_batch_ms + on.tracing_ms
    within = max(off.percent(per_batch_ms), on.percent(on.tracing_ms)) <= 100 * AIM_SHARE
    return int(all_ms > AIM_MS or not within)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--bad", type=float, default=0.01, help="share of bad records")


def _ingest(made: Bed, lake: Path, count: int) -> Costs:
    costs = Costs()
    report = ConsumerLoop.report

    def kept(loop: ConsumerLoop) -> ConsumerReport:
        costs.reports[:] = [report(loop)]
        return costs.reports[0]

    with ExitStack() as patched:
        patched.enter_context(_timed(FeedCounters, "count", costs.counting))
        for where, name in (
            (trail, "origins"),
            (trail, "planned"),
            (trail.Way, "handed_over"),
            (trail.Way, "answered"),
        ):
            patched.enter_context(_timed(where, name, costs.tracing))
        patched.enter_context(patch.object(ConsumerLoop, "report", kept))
        costs.figures = ingest_here(made, lake, count)
    return costs


@contextmanager
def _timed(where: Any, name: str, took: list[float]) -> Iterator[None]:
    """Each call of this function adds what it took."""
    call: Callable[..., Any] = getattr(where, name)

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        found = call(*arguments)
        took.append(time.perf_counter() - began)
        return found

    with patch.object(where, name, timed):
        yield


def _export_s(report: ConsumerReport) -> float:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    sent = CloudWatchTarget(CloudWatch(), SystemClock())
    sinks = Both(MemoryMetrics(), Both(RayMetrics(), Both(PrometheusMetrics(), sent)))
    export = MetricsExport(sinks, "bench")
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
