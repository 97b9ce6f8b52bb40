"""A proxy in front of a store: does to requests what networks and stores do (FAILURES 4, 18-20).

It forwards HTTP as it came, so signatures stay good; what a :class:`Fault` matches is answered
otherwise, or not at all.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Kind = Literal["answer", "drop_answer", "hang", "cut_body", "slow", "unconditional"]


@dataclass
class Fault:
    """What is done to requests.

    Attributes:
        kind: ``answer``: with ``status`` and ``code``, not forwarded; ``drop_answer``: forwarded,
            then the connection is closed; ``hang``: neither forwarded nor answered; ``cut_body``:
            half of the answer's body; ``slow``: waits ``delay_s`` first; ``unconditional``: the
            condition is taken off.
        method: Of the requests that it is done to.
        path: A part of their path.
        times: To how many of them.
    """

    kind: Kind
    method: str = "PUT"
    path: str = ""
    times: int = 1_000_000
    status: int = 503
    code: str = "SlowDown"
    delay_s: float = 0.0
    done: int = 0

    def fits(self, method: str, path: str) -> bool:
        return self.done < self.times and method == self.method and self.path in path


@dataclass
class StoreProxy:
    """A proxy that runs; see :func:`store_proxy`.

    Attributes:
        endpoint: Its URL.
        requests: Method and path of what came, in order.
    """

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def fault(self, kind: Kind, **more: Any) -> Iterator[Fault]:
        """Do this to requests within the block."""
        one = Fault(kind, **more)
        self.faults.append(one)
        try:
            yield one
        finally:
            self.faults.remove(one)

    def count(self, method: str, path: str) -> int:
        return sum(1 for m, p in self.requests if m == method and path in p)

    def taken(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            for one in self.faults:
                if one.fits(method, path):
                    one.done += 1
                    return one
        return None


@contextmanager
def store_proxy(upstream_port: int) -> Iterator[StoreProxy]:
    """Run a proxy on a loopback port of its own."""
    found: list[StoreProxy] = []

    class Handler(_Handler):
        proxy: Callable[[], StoreProxy] = staticmethod(lambda: found[0])
        upstream = upstream_port

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.append(StoreProxy(f"http://127.0.0.1:{server.server_address[1]}"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found[0]
    finally:
        found[0].over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Callable[[], StoreProxy]
    upstream: int

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy().taken(self.command, self.path)
        if fault is None:
            self._forward(body)
        elif fault.kind == "answer":
            text = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>"
            self._answer(fault.status, {"Content-Type": "application/xml"}, text.encode())
        elif fault.kind == "hang":
            self.proxy().over.wait(60)
            self._hang_up()
        elif fault.kind == "slow":
            self.proxy().over.wait(fault.delay_s)
            self._forward(body)
        else:
            self._forward(body, fault.kind)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _do  # noqa: N815

    def _forward(self, body: bytes, kind: str = "") -> None:
        dropped = "if-none-match" if kind == "unconditional" else ""
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != dropped:
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        if kind == "drop_answer":
            self._hang_up()
            return
        headers = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        self._answer(answer.status, headers, data, cut=kind == "cut_body")

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        if self.command != "HEAD":
            headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
            headers["Content-Length"] = str(len(data))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
