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
from typing import Any, NamedTuple
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


class Spent(NamedTuple):
    """Of one call: seconds on the wall's clock, and of the CPU in its thread."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Spent:
        """By the clocks."""
        return cls(time.perf_counter(), time.thread_time())

    def since(self, began: Spent) -> Spent:
        """What has passed."""
        return Spent(self.wall_s - began.wall_s, self.cpu_s - began.cpu_s)


@dataclass(slots=True)
class Costs:
    """What one ingest took.

    Attributes:
        counting: Of each batch.
        tracing: Of each call that may make or end a span, or look for headers.
        sending: Of each write of finished spans, in a thread of its own.
        reports: The consumer's last report.
        figures: Of the ingest.
    """

    counting: list[Spent] = field(default_factory=list)
    tracing: list[Spent] = field(default_factory=list)
    sending: list[Spent] = field(default_factory=list)
    reports: list[ConsumerReport] = field(default_factory=list)
    figures: Figures = field(default_factory=lambda: Figures(0, 0.0, 0.0, 0.0))

    def all_tracing(self) -> Spent:
        """In all threads; the wall's clock of the one that ingests."""
        cpu_s = sum(one.cpu_s for one in (*self.tracing, *self.sending))
        return Spent(sum(one.wall_s for one in self.tracing), cpu_s)

    def all_metrics(self, export: Spent) -> Spent:
        """With the exports meanwhile."""
        exports = self.figures.seconds / STATUS_INTERVAL_S
        wall_s = sum(one.wall_s for one in self.counting) + exports * export.wall_s
        return Spent(wall_s, sum(one.cpu_s for one in self.counting) + exports * export.cpu_s)

    def of_a_batch_ms(self, spent: Spent) -> float:
        """On the wall's clock."""
        return 1000 * spent.wall_s / len(self.counting)

    def percent(self, spent: Spent) -> float:
        """The part of the CPU."""
        return 100 * spent.cpu_s / self.figures.cpu_s


class Written(SpanExporter):
    """Writes spans as an exporter over OTLP does, and lets them go."""

    def __init__(self, took: list[Spent]) -> None:
        self._took = took

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write them."""
        began = Spent.now()
        encode_spans(spans).SerializePartialToString()
        self._took.append(Spent.now().since(began))
        return SpanExportResult.SUCCESS


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("metric", chosen) as made:
        topic = made.topic()
        made.load(topic, chosen.count, bad=chosen.bad, traceparent=1)
        made.pipeline(topic)
        off = _ingest(made, made.folder / "off", chosen.count)
        written: list[Spent] = []
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(Written(written)))
        tracing.use(tracing.Spans(provider, Tracing().links))
        on = _ingest(made, made.folder / "on", chosen.count)
        tracing.end()
        tracing.use(None)
        on.sending = written
        export = _export(off.reports[0])
    return _tell(off, on, export)


def _tell(off: Costs, on: Costs, export: Spent) -> int:
    found = {
        "counting a batch": off.counting,
        "an export": [export],
        "a call that may make a span, off": off.tracing,
        "the same, on": on.tracing,
        "writing spans, on": on.sending,
    }
    rows = [
        [
            name,
            len(took),
            1000 * median(one.wall_s for one in took),
            1000 * max(one.wall_s for one in took),
            1000 * median(one.cpu_s for one in took),
        ]
        for name, took in found.items()
    ]
    table(rows, ["what", "calls", "median ms", "most ms", "median CPU ms"])
    metrics, spans = off.all_metrics(export), on.all_tracing()
    told = {
        "batches": len(off.counting),
        "per_batch_ms": off.of_a_batch_ms(metrics),
        "cpu_percent": off.percent(metrics),
        "tracing_off_ms": off.of_a_batch_ms(off.all_tracing()),
        "tracing_on_ms": on.of_a_batch_ms(spans),
        "tracing_on_cpu_percent": on.percent(spans),
    }
    closing("metric_costs", **told)
    slow = max(told["per_batch_ms"], told["tracing_on_ms"]) > AIM_MS
    dear = max(told["cpu_percent"], told["tracing_on_cpu_percent"]) > 100 * AIM_SHARE
    return int(slow or dear)


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
def _timed(where: Any, name: str, took: list[Spent]) -> Iterator[None]:
    """Each call of this function adds what it took."""
    call: Callable[..., Any] = getattr(where, name)

    def timed(*arguments: Any) -> Any:
        began = Spent.now()
        found = call(*arguments)
        took.append(Spent.now().since(began))
        return found

    with patch.object(where, name, timed):
        yield


def _export(report: ConsumerReport) -> Spent:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    sent = CloudWatchTarget(CloudWatch(), SystemClock())
    sinks = Both(MemoryMetrics(), Both(RayMetrics(), Both(PrometheusMetrics(), sent)))
    export = MetricsExport(sinks, "bench")
    took: list[Spent] = []
    sizes = {table: TableSizes(1, committed_at_s=0.0) for table in report.tables}
    for number in range(EXPORTS):
        for counters in report.tables.values():
            # Else nothing has grown since the export before.
            counters["rows"] += 1000
        usage = {("consumer", report.consumer): Usage(1, float(number), number)}
        said = RunReports({report.consumer: report}, usage=usage, sizes=sizes)
        began = Spent.now()
        export.export(said, float(number))
        took.append(Spent.now().since(began))
    ray.shutdown()
    return Spent(median(one.wall_s for one in took), median(one.cpu_s for one in took))


if __name__ == "__main__":
    sys.exit(main())
