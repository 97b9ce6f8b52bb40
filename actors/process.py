"""Which process an actor is, so that a frozen one can be ended and a stranger never is."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from typing import Self

import psutil
import ray

from raylake.processes import Usage, living


@dataclass(frozen=True, slots=True)
class ActorProcess:
    """A process on some host, told apart from a later one with the same pid.

    Attributes:
        host: The host's name.
        pid: The process.
        created_s: When it started, seconds since the epoch.
        usage: What it had taken of its machine when it said so.
        node: The Ray node that it is on; empty: it was not told.
    """

    host: str
    pid: int
    created_s: float
    usage: Usage | None = field(default=None, compare=False)
    node: str = field(default="", compare=False)

    @classmethod
    def of_this(cls) -> Self:
        """The calling process."""
        created_s = psutil.Process().create_time()
        node = str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
        return cls(socket.gethostname(), os.getpid(), created_s, Usage.of_this(), node)

    def kill(self) -> bool:
        """SIGKILL it, if it is on this host and still the same process; says whether it was."""
        if self.host != socket.gethostname():
            return False
        process = living(self.pid, self.created_s)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill()
                return True
        return False
