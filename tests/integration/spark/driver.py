"""A process of its own that is connected to the tests' Ray cluster, and calls what it is told.

It is connected from the start where ``RAY_ADDRESS`` is set, else by what it is told to call.
Functions and answers cross by pickle; each call has a thread, so that one can wait while others go
on. Ray reads its token when it is imported: the test process may have imported it without.
"""

from __future__ import annotations

import itertools
import os
import pickle
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")


def send(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(struct.pack("!q", len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    head = stream.read(8)
    return pickle.loads(stream.read(struct.unpack("!q", head)[0])) if len(head) == 8 else None


class Driver:
    """The test's end."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._log = (folder / "driver.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.spark.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=dict(environment),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Let it call a function of a module; the answer comes when it comes."""
        number, answer = next(self._numbers), Future[Any]()
        self._waiting[number] = answer
        assert self._process.stdin is not None
        send(self._process.stdin, (number, function, arguments))
        return answer

    def call(self, function: Callable[..., T], *arguments: Any, timeout_s: float = 500.0) -> T:
        """The same, waiting for the answer."""
        return self.begin(function, *arguments).result(timeout_s)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while message := receive(self._process.stdout):
            number, value, error = message
            answer = self._waiting.pop(number)
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        for answer in self._waiting.values():
            answer.set_exception(RuntimeError("the driver process ended"))


def main() -> None:
    # Whatever prints must not do so into the answers.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    from raylake.client.cluster import connect
    from raylake.client.environment import prepare_ray

    if "RAY_ADDRESS" in os.environ:
        prepare_ray()
        connect()
    writing = threading.Lock()

    def answer(number: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        value, error = None, None
        try:
            value = function(*arguments)
        except BaseException as raised:  # noqa: BLE001
            # Tracebacks do not cross, notes do.
            raised.add_note(traceback.format_exc())
            error = raised
        with writing:
            send(out, (number, value, error))

    while message := receive(sys.stdin.buffer):
        threading.Thread(target=answer, args=message, daemon=True).start()


if __name__ == "__main__":
    main()
