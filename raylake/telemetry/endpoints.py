"""The HTTP endpoints of a run: ``/healthz``, ``/readyz`` and ``/metrics`` (DESIGN §9)."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from raylake.config.listen import host_and_port
from raylake.telemetry.health import Health

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
JSON = "application/json"


class Endpoints:
    """Serves the endpoints in a thread of its own, from :meth:`start` to :meth:`close`.

    Args:
        address: ``host:port``, port 0 for a free one; ``off`` serves nothing.
        registry: What ``/metrics`` serves.
        checks: The further paths; each is asked anew at each request, in a thread of the server's.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        checks: Mapping[str, Callable[[], Health]],
    ) -> None:
        self._place = host_and_port(address)
        self._metrics = make_wsgi_app(registry)
        self._checks = dict(checks)
        self._server: WSGIServer | None = None

    @property
    def url(self) -> str | None:
        """``http://host:port``; None while nothing is served."""
        server = self._server
        if server is None:
            return None
        host, port = str(server.server_address[0]), server.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Listen; no effect when it does already.

        Raises:
            OSError: The address cannot be had.
        """
        if self._server is not None or self._place is None:
            return
        kind = _Server6 if ":" in self._place[0] else _Server
        server = kind(self._place, _Quiet)
        server.set_app(self.answer)
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
        self._server = server
        log.info("health and metrics at %s", self.url)

    def close(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        path = str(environ.get("PATH_INFO", ""))
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _json(start_response, "405 Method Not Allowed", {"allowed": ["GET", "HEAD"]})
        check = self._checks.get(path)
        if check is None:
            return _json(start_response, "404 Not Found", {"paths": [*self._checks, "/metrics"]})
        health = check()
        status = "200 OK" if health.ok else "503 Service Unavailable"
        return _json(start_response, status, health.body)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, *_: Any) -> None:
        """Probes ask every few seconds; nothing is logged."""


def _json(start_response: StartResponse, status: str, body: Mapping[str, Any]) -> Iterable[bytes]:
    text = (json.dumps(body, default=str) + "\n").encode()
    start_response(status, [("Content-Type", JSON), ("Content-Length", str(len(text)))])
    return [text]
