"""An OpenTelemetry collector of a test: takes spans over OTLP/HTTP and keeps them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    """A span as it arrived.

    Attributes:
        name: Its name.
        ids: Of the trace, the span and its parent; hexadecimal, the last one empty for none.
        links: Trace ids of its links.
        told: Its attributes.
        about: The resource's attributes: what the process says of itself.
    """

    name: str
    ids: tuple[str, str, str]
    links: tuple[str, ...]
    told: dict[str, Any]
    about: dict[str, Any]


@dataclass
class Collector:
    """What arrived.

    Attributes:
        url: The server's.
        spans: In order of arrival.
        headers: Of the requests, names in lower case.
    """

    url: str = ""
    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def of(self, name: str) -> list[Received]:
        """The spans of a name."""
        return [one for one in self.spans if one.name == name]

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process send its spans here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}

    def take(self, body: bytes) -> None:
        """Keep the spans of one request."""
        for some in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: _value(one.value) for one in some.resource.attributes}
            for scope in some.scope_spans:
                for span in scope.spans:
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    links = tuple(link.trace_id.hex() for link in span.links)
                    told = {one.key: _value(one.value) for one in span.attributes}
                    self.spans.append(Received(span.name, ids, links, told, about))


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector at a free port of loopback."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            assert self.path == "/v1/traces"
            found.headers.append({k.lower(): v for k, v in self.headers.items()})
            found.take(gzip.decompress(body) if packed else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
