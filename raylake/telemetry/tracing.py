"""Spans by OpenTelemetry, in the processes where they are switched on.

While they are off, :func:`spans` is None, nothing of OpenTelemetry is imported, and what would make
spans asks for nothing else. The SDK makes, samples and sends them as its ``OTEL_…`` variables say.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from raylake.config.observing import Tracing
from raylake.errors import ConfigError, RayLakeError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanContext, SpanKind

log = logging.getLogger(__name__)

HEADER: Final = "traceparent"
LONGEST_HEADER: Final = 256
FLUSH_S: Final = 2.0
_GROUP: Final = "opentelemetry_traces_exporter"
_HEADER_ENTRY: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+ *= *[ !#-+\--:<-\[\]-~]*")

Carrier = Mapping[str, str]
"""A span's context on its way to another process, as W3C Trace Context writes it."""


class OpenSpan:
    """A span that has begun."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def event(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Something happened now."""
        self._span.add_event(name, attributes)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)

    def failed(self, why: str) -> None:
        """It did not do what it was to do."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, why))

    def end(self) -> None:
        """It is over, and may be sent."""
        self._span.end()

    def carrier(self) -> dict[str, str]:
        """Its context, for another process."""
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carried: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carried, set_span_in_context(self._span))
        return carried


class Spans:
    """Makes the spans of one process.

    Args:
        provider: Where they go.
        links: A hand-over links to at most so many spans of its records' producers.
    """

    def __init__(self, provider: TracerProvider, links: int) -> None:
        self.links = links
        self._provider = provider
        self._tracer = provider.get_tracer("raylake")

    def hand_over(self, attributes: Mapping[str, Any], found: Iterable[str]) -> OpenSpan:
        """Begin the span of a hand-over.

        Args:
            attributes: What it is about.
            found: ``traceparent`` headers of its records, see :func:`traceparents`.
        """
        from opentelemetry.trace import SpanKind

        contexts = [
            _context({HEADER: text}) for text in spread(list(dict.fromkeys(found)), self.links)
        ]
        return self._begin("raylake.hand_over", SpanKind.PRODUCER, attributes, contexts)

    def commit(self, attributes: Mapping[str, Any], units: Iterable[Carrier]) -> OpenSpan:
        """Begin the span of a commit, below the first unit's that is sampled, with links to all.

        Args:
            attributes: What it is about.
            units: The contexts of the hand-overs that it is to decide.
        """
        from opentelemetry.trace import SpanKind

        contexts = [_context(carrier) for carrier in units if carrier]
        return self._begin("raylake.commit", SpanKind.CONSUMER, attributes, contexts, below=True)

    def flush(self) -> None:
        """Send what has ended, as far as 2 s allow."""
        # The SDK's own flush takes a timeout and waits as long as its exporter does.
        flushing = threading.Thread(target=self._provider.force_flush, daemon=True)
        flushing.start()
        flushing.join(FLUSH_S)

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        contexts: Sequence[SpanContext],
        *,
        below: bool = False,
    ) -> OpenSpan:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, NonRecordingSpan, set_span_in_context

        seen = [one for one in contexts if one.is_valid and one.trace_flags.sampled]
        # An empty context: whatever is current in this thread is none of ours.
        parent = Context()
        if below and seen:
            parent = set_span_in_context(NonRecordingSpan(seen[0]), parent)
        links = [Link(one) for one in seen]
        span = self._tracer.start_span(
            name, parent, kind=kind, attributes=dict(attributes), links=links
        )
        return OpenSpan(span)


_spans: Spans | None = None


def spans() -> Spans | None:
    """What makes spans in this process; None while tracing is off."""
    return _spans


def use(made: Spans | None) -> None:
    """Make spans with this from now on; None switches tracing off."""
    global _spans  # noqa: PLW0603 - one for the process, as its log is
    _spans = made


def begin(section: Tracing, about: Mapping[str, str]) -> RayLakeError | None:
    """Switch tracing on where the pipeline file or the process's variables say so.

    Args:
        section: ``tracing`` of the pipeline file.
        about: What every span of this process says: ``pipeline``, ``run_id``, ``process``.

    Returns:
        Why it is off although it should be on; a run goes on without it.
    """
    if not wanted(section, os.environ):
        use(None)
        return None
    try:
        _check_headers(os.environ)
        use(Spans(_provider(about, os.environ), section.links))
        _listen()
    except (ConfigError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        use(None)
        trouble = ConfigError(
            f"no spans are sent: {error.message if isinstance(error, RayLakeError) else error}",
            hint="pip install 'raylake[tracing]' on every node, and see the OTEL_… variables "
            "there; or `tracing: {enabled: false}`",
        )
        log.warning("%s", trouble.message)
        return trouble
    return None


class _IntoOurLog(logging.Handler):
    """What OpenTelemetry says, a collector that is away above all, stands in the run's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it once more."""
        log.log(record.levelno, "OpenTelemetry: %s", record.getMessage())


def _listen() -> None:
    theirs = logging.getLogger("opentelemetry")
    if not any(isinstance(one, _IntoOurLog) for one in theirs.handlers):
        theirs.addHandler(_IntoOurLog(logging.WARNING))
    theirs.propagate = False


def _check_headers(environ: Mapping[str, str]) -> None:
    """Refuse headers that the SDK, or whoever sends them, would repeat in an error.

    Raises:
        ConfigError: With the number of the entry; its value may be a secret.
    """
    for name in ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
        for number, entry in enumerate(environ.get(name, "").split(","), start=1):
            if entry.strip() and not _is_header(entry.strip()):
                raise ConfigError(f"entry {number} of {name} is no header: name=value,…")


def _is_header(entry: str) -> bool:
    value = unquote(entry.partition("=")[2])
    return bool(_HEADER_ENTRY.fullmatch(entry)) and value.isascii() and value.isprintable()


def end() -> None:
    """Send what is left of this process's spans."""
    if _spans is not None:
        _spans.flush()


def wanted(section: Tracing, environ: Mapping[str, str]) -> bool:
    """Whether spans are to be made: the file says so, else OpenTelemetry's own variables."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if section.enabled is not None:
        return section.enabled
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if named:
        return named != "none"
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(environ.get(name, "").strip() for name in places)


def traceparents(records: pa.RecordBatch, most: int) -> tuple[str, ...]:
    """The ``traceparent`` headers of a fetched batch, at most so many, spread over the batch."""
    at = records.schema.get_field_index("headers")
    if at < 0:
        return ()
    column = records.column(at)
    if not len(column.values):
        return ()
    # Where every record has one, so many records are enough. Looked at one by one: that needs less
    # code, and a batch comes rarely enough to find none of it in the CPU's caches.
    rows = _places(len(column), most)
    found = [
        one["value"]
        for row in rows
        for one in column[row].as_py() or ()
        if one["key"] == HEADER and one["value"] is not None
    ]
    if len(found) < len(rows):
        found = _all_values(column, most)
    texts = (one.decode("ascii", "replace") for one in found[:most] if len(one) <= LONGEST_HEADER)
    return tuple(texts)


def _all_values(column: pa.Array, most: int) -> list[bytes]:
    headers = column.flatten()
    mine = pc.equal(pc.struct_field(headers, "key"), HEADER)
    values = pc.struct_field(headers, "value").filter(mine).drop_null()
    found: list[bytes] = values.take(pa.array(_places(len(values), most), pa.int64())).to_pylist()
    return found


def spread(texts: Sequence[str], most: int) -> list[str]:
    """At most so many of them, from the first to the last."""
    return [texts[at] for at in _places(len(texts), most)]


def _places(count: int, most: int) -> Sequence[int]:
    if count <= most:
        return range(count)
    return [place * (count - 1) // max(1, most - 1) for place in range(most)]


def _context(carrier: Carrier) -> SpanContext:
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract(dict(carrier), Context())
    return get_current_span(found).get_span_context()


def _provider(about: Mapping[str, str], environ: Mapping[str, str]) -> TracerProvider:
    """The SDK with the exporters that its variables name."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    said = {f"raylake.{name}": text for name, text in about.items()}
    named = environ.get("OTEL_SERVICE_NAME") or environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in named:
        said["service.name"] = "raylake"
    # Whoever ends a process flushes, and does not wait for a collector that is away.
    provider = TracerProvider(resource=Resource.create(said), shutdown_on_exit=False)
    for name in exporter_names(environ):
        provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    return provider


def exporter_names(environ: Mapping[str, str]) -> list[str]:
    """The exporters that OpenTelemetry's variables name, as packages register them."""
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    otlp = "otlp_proto_grpc" if protocol.strip() == "grpc" else "otlp_proto_http"
    names = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    found = [name.strip() for name in names.split(",") if name.strip()]
    return [otlp if name == "otlp" else name for name in found]


def is_installed(exporter: str) -> bool:
    """Whether a package here brings this exporter."""
    return bool(entry_points(group=_GROUP, name=exporter))


def _exporter(name: str) -> SpanExporter:
    for found in entry_points(group=_GROUP, name=name):
        made: SpanExporter = found.load()()
        return made
    raise ConfigError(f"OpenTelemetry's exporter {name!r} is not installed here")
