"""Heavy work of delta-rs in a child process with a limit on its memory (DESIGN §6).

The parent looks at the child's resident memory and ends it above the limit, so that neither the
parent nor a table's owner is ended in its place. What the child had committed by then is for the
log to say. The child ends itself when its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from raylake import faults
from raylake.errors import RayLakeError
from raylake.storage.access import stores_from_json, use_stores
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import WriteFailed
from raylake.tables.proposals import Proposal, carry_out
from raylake.tables.results import OperationResult
from raylake.tables.running import MemoryExceeded, Order, RunnerLost
from raylake.tables.space import SCRATCH_HINT, ran_out, require_space

LOOK_EVERY_S: Final = 0.02
ENDS_WITHIN_S: Final = 10.0
NEAR_LIMIT: Final = 0.8
"""A child that was killed by somebody else with so much of its limit in use ended by memory."""
ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "jemalloc"}
"""Of a child, where the parent's does not say otherwise: jemalloc gives back what many threads have
freed, where Arrow's own choice keeps a fifth of a merge's peak (ADR 30)."""
_MIB: Final = 1024 * 1024
_ORDER: Final = "order"
_ANSWER: Final = "answer"
_PACKAGES: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class LimitedRunner:
    """A :class:`~raylake.tables.running.Runner` that runs each order in a child process.

    Attributes:
        limit_bytes: Resident memory that the child may take, its start of about 150 MiB included.
        on_start: Called with the child's process id.
    """

    limit_bytes: int
    on_start: Callable[[int], None] = lambda _pid: None

    def run(self, order: Order) -> OperationResult:
        """See :meth:`raylake.tables.running.Runner.run`.

        Raises:
            MemoryExceeded: The child was ended by its memory.
            NotEnoughSpace, WriteFailed: The order cannot be put where the child finds it.
        """
        found = self.answer(order)
        return found.result if isinstance(found, Proposal) else found

    def answer(self, order: Order) -> OperationResult | Proposal:
        """As :meth:`run`; of an order of a turn, with what is to be committed."""
        with _given(order) as folder:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "raylake.tables.child", str(folder)],
                stdin=subprocess.PIPE,
                env={**ENVIRONMENT, **os.environ, "PYTHONPATH": _path()},
            )
            try:
                self.on_start(child.pid)
                peak_bytes = self._watched(child)
            finally:
                child.kill()
                child.wait()
                if child.stdin is not None:
                    child.stdin.close()
            answer = folder / _ANSWER
            if peak_bytes <= self.limit_bytes and answer.exists():
                found: OperationResult | Proposal | RayLakeError = pickle.loads(answer.read_bytes())  # noqa: S301
                if isinstance(found, RayLakeError):
                    raise found
                return found
            raise self._lost(order, peak_bytes, child.returncode)

    def _watched(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for the child's end, or for its memory to pass the limit; the most that it took."""
        peak_bytes = 0
        process = psutil.Process(child.pid)
        while child.poll() is None and peak_bytes <= self.limit_bytes:
            try:
                peak_bytes = max(peak_bytes, int(process.memory_info().rss))
            except psutil.Error:
                break
            time.sleep(LOOK_EVERY_S)
        if peak_bytes <= self.limit_bytes:
            child.wait(timeout=ENDS_WITHIN_S)
        return peak_bytes

    def _lost(self, order: Order, peak_bytes: int, status: int) -> RunnerLost:
        took = f"{peak_bytes // _MIB} MiB of {self.limit_bytes // _MIB} MiB"
        where = f"{order.table}: {order.name}"
        if peak_bytes > self.limit_bytes:
            return MemoryExceeded(f"{where}: its process took {took} and was ended")
        if peak_bytes > NEAR_LIMIT * self.limit_bytes:
            return MemoryExceeded(f"{where}: its process ended (status {status}) at {took}")
        return RunnerLost(f"{where}: its process ended (status {status}) at {took}")


@contextmanager
def _given(order: Order) -> Iterator[Path]:
    """A scratch folder with an order in it, while the context lasts.

    Raises:
        NotEnoughSpace, WriteFailed: It cannot be written there; nothing was begun.
    """
    what = f"{order.table}: {order.name}: the scratch folder of its process"
    data = pickle.dumps(order, protocol=5)
    with ExitStack() as stack:
        try:
            scratch = tempfile.TemporaryDirectory(prefix="raylake-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(scratch))
            require_space(folder, len(data), what, hint=SCRATCH_HINT)
            (folder / _ORDER).write_bytes(data)
        except OSError as error:
            where = Path(tempfile.gettempdir())
            raise ran_out(error, where, what) or WriteFailed(
                f"{what} cannot be written: {error}", hint=SCRATCH_HINT
            ) from error
        del data
        yield folder


def main(folder: Path) -> None:
    """The child: run the order that lies in a folder, and leave the answer there."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    order: Order = pickle.loads((folder / _ORDER).read_bytes())  # noqa: S301
    if order.stores:
        use_stores(stores_from_json(order.stores))
    answer: OperationResult | Proposal | RayLakeError
    faults.reach("tables.before_operation", table=order.table)
    try:
        answer = carry_out(DeltaRsEngine(), order)
    except RayLakeError as error:
        answer = error
    faults.reach("tables.after_operation", table=order.table)
    scratch = folder / f"{_ANSWER}.tmp"
    scratch.write_bytes(pickle.dumps(answer, protocol=5))
    scratch.rename(folder / _ANSWER)
    # What delta-rs leaves running must not hold the end up (DESIGN §3).
    sys.stdout.flush()
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _path() -> str:
    return os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH", ""))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
