"""A server that takes pushes as a Prometheus push gateway does: one group a job and labels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass
class Gateway:
    """What was pushed, and how the next pushes are answered.

    Attributes:
        url: The server's.
        groups: Samples by the group's labels, then by name and labels.
        authorization: What a push must carry; empty lets everybody in.
        status: Answers everything with this; 0 for a gateway that works.
        pushes: How many were taken.
        seen: The ``Authorization`` headers that came.
    """

    url: str = ""
    groups: dict[Labels, dict[tuple[str, Labels], float]] = field(default_factory=dict)
    authorization: str = ""
    status: int = 0
    pushes: int = 0
    seen: list[str] = field(default_factory=list)

    def value(self, group: dict[str, str], name: str, **labels: str) -> float | None:
        """A sample of a group."""
        found = self.groups.get(tuple(sorted(group.items())), {})
        return found.get((name, tuple(sorted(labels.items()))))

    def take(self, path: str, authorization: str, body: str) -> tuple[int, str]:
        """Answer one push."""
        self.seen.append(authorization)
        if self.status:
            return self.status, "out of order\n"
        if self.authorization and authorization != self.authorization:
            return 401, f"who are you, {authorization}?\n"
        parts = [unquote(part) for part in path.removeprefix("/metrics/").split("/")]
        group = tuple(sorted(zip(parts[::2], parts[1::2], strict=True)))
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }
        self.groups[group] = samples
        self.pushes += 1
        return 200, ""


@contextmanager
def gateway() -> Iterator[Gateway]:
    """A gateway at a free port of loopback."""
    found = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, text = found.take(self.path, self.headers.get("Authorization", ""), body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

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
