"""Memory that was just in use, for both sides of a comparison.

A virtual machine gives memory that lies free back to its host, and the first touch of such a page
costs several times that of one that another process has just given up (8 GiB touched: 27 s, right
after that 3 s). Which of them a process gets depends on what ran before it. So a process takes
memory, touches it, and gives it up piece by piece while the measured one runs.

``python benchmarks/warm_memory.py FOLDER`` holds the memory until the folder is there.
"""

from __future__ import annotations

import argparse
import mmap
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bed import Bed, BenchFailed

PIECE_BYTES = 128 << 20
PIECES = 64
PAUSE_S = 0.1
"""All of it within 7 s: a piece that lies free for two seconds is given back to the host."""
READY = "held"
TAKING_S = 120.0


@contextmanager
def warm_memory(made: Bed, folder: Path) -> Iterator[None]:
    """Hold 8 GiB; give them up bit by bit from the moment when ``folder`` appears."""
    log = made.folder / "memory.log"
    log.unlink(missing_ok=True)
    holder = made.start([sys.executable, __file__, str(folder)], log.name)
    try:
        began_s = time.monotonic()
        while READY not in log.read_text():
            if holder.poll() is not None or time.monotonic() > began_s + TAKING_S:
                raise BenchFailed(f"memory could not be taken\n{made.tail(log.name)}")
            time.sleep(0.1)
        yield
    finally:
        holder.kill()
        holder.wait()


def _hold(folder: Path) -> None:
    held = []
    for _ in range(PIECES):
        piece = mmap.mmap(-1, PIECE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # Large pages: giving them up costs the measured process no CPU worth naming.
        piece.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, PIECE_BYTES, mmap.PAGESIZE):
            piece[at] = 1
        held.append(piece)
    print(READY, flush=True)
    while not folder.exists():
        time.sleep(0.02)
    while held:
        held.pop().close()
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    _hold(parser.parse_args().folder)
