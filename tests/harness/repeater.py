"""A server that lets nobody in, and says with which headers they came, as some do in an error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CODE = "SignatureDoesNotMatch"
REPEATED = ("x-amz-security-token", "authorization")


@dataclass
class Repeater:
    """Who came.

    Attributes:
        url: The server's.
        seen: The headers of each request, names in lower case.
    """

    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)

    def values(self, header: str) -> list[str]:
        """What came in this header."""
        return [one[header] for one in self.seen if header in one]

    def answer(self, headers: dict[str, str]) -> bytes:
        """What one request gets: text, or an error as AWS's services write it."""
        self.seen.append(headers)
        found = [f"{name}: {headers[name]}" for name in REPEATED if name in headers]
        if "json" not in headers.get("content-type", ""):
            return "\n".join(found).encode()
        message = f"refused with {' '.join(found)}; the string to sign was:\n{found}"
        return json.dumps({"__type": CODE, "message": message}).encode()


@contextmanager
def repeater() -> Iterator[Repeater]:
    """A server at a free port of loopback."""
    found = Repeater()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = found.answer(headers)
            self.send_response(403)
            self.send_header("Content-Type", headers.get("content-type", "text/plain"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            self.do_POST()

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
