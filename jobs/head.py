"""Whether the head of the cluster is still there (FAILURES 36)."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from raylake.clock import Clock
from raylake.errors import DependencyUnreachable

LOOK_S: Final = 2.0
CONNECT_S: Final = 5.0
RAYS_PATIENCE_ENV: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
RAYS_PATIENCE_S: Final = 60.0
SHARE: Final = 0.75
"""Of the time after which Ray kills the driver without a word of ours."""


class Head:
    """The service that knows all of a cluster's actors (GCS), where it takes connections.

    When it is lost, consumers and owners may go on for a minute; then Ray ends all processes of
    the cluster, the driver too. Whoever asks for an actor meanwhile is kept waiting.

    Args:
        address: ``host:port``.
        clock: Time.
        answers: Whether somebody takes connections there.
    """

    def __init__(
        self, address: str, clock: Clock, answers: Callable[[str], bool] | None = None
    ) -> None:
        self.patience_s = SHARE * float(os.environ.get(RAYS_PATIENCE_ENV, RAYS_PATIENCE_S))
        self._address = address
        self._clock = clock
        self._answers = answers or takes_connections
        self._answered_at_s = clock.monotonic()

    def check(self) -> bool:
        """Ask it; whether it answers.

        Raises:
            DependencyUnreachable: It has not done so for :attr:`patience_s`.
        """
        now_s = self._clock.monotonic()
        if self._answers(self._address):
            self._answered_at_s = now_s
            return True
        if now_s >= self._answered_at_s + self.patience_s:
            raise DependencyUnreachable(
                f"the head of the Ray cluster is gone: its control service (GCS) at "
                f"{self._address} does not answer, and the cluster ends without it",
                hint="what was committed is safe, the rest is read again. Start a cluster, then "
                "the run, with --take-over where nothing of the lost cluster runs any more",
                address=self._address,
            )
        return False


def takes_connections(address: str) -> bool:
    """Whether somebody does at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError:
        return False
    return True


class WatchedHead:
    """Looks at a cluster's head in a thread of its own, while the block lasts.

    Args:
        head: The head.
        lost: Called in that thread, once, with the error.
    """

    def __init__(self, head: Head, lost: Callable[[DependencyUnreachable], None]) -> None:
        self._head = head
        self._lost = lost
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """Begin."""
        threading.Thread(target=self._run, name="head", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End; what is under way is not waited for."""
        del kind, error, at
        self._over.set()

    def _run(self) -> None:
        answered = True
        while not self._over.wait(LOOK_S):
            before = answered
            try:
                answered = self._head.check()
            except DependencyUnreachable as error:
                if not self._over.is_set():
                    self._lost(error)
                return
            if before and not answered:
                sys.stderr.write(
                    "the head of the Ray cluster does not answer; the run ends in "
                    f"{self._head.patience_s:.0f} s unless it comes back\n"
                )
