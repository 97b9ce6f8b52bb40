"""Tables of many small files for the benchmarks of upkeep, and children that are measured."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from raylake.delta.files import write_data_files
from raylake.delta.log_commit import LogCommit, add_line, commit_after
from raylake.storage.place import place
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Create

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("customer", pa.string()),
        ("amount", pa.float64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("note", pa.string()),
    ]
)
ROW_BYTES = 14
"""Of a row in a file, compressed; measured once."""
_LOOK_EACH_S = 0.05


Ids = Callable[[int, int, int], "np.ndarray[tuple[int], np.dtype[np.int64]]"]
"""The ids of rows: by the first one's place, how many they are, and how many the table has."""


def in_order(first: int, count: int, total: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Ids that rise from file to file."""
    del total
    return np.arange(first, first + count, dtype=np.int64)


def scattered(first: int, count: int, total: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Ids below ``total`` as they are drawn: each file has some from everywhere."""
    return np.random.default_rng([first, total]).integers(0, total, count)


def rows(count: int, first: int, seed: int) -> pa.Table:
    """Orders: ids in their order, 50,000 customers, a time, a note that hardly compresses."""
    some = np.random.default_rng(seed)
    names = np.char.add("customer-", some.integers(0, 50_000, count).astype(str))
    notes = np.char.add("note ", some.integers(0, 2**40, count).astype(str))
    at = 1_770_000_000_000_000 + (first + np.arange(count)) * 1000 + some.integers(0, 500, count)
    columns = [
        pa.array(np.arange(first, first + count)),
        pa.array(names),
        pa.array(np.round(some.gamma(2, 30, count), 2)),
        pa.array(at, pa.timestamp("us", tz="UTC")),
        pa.array(notes),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def table_of(
    address: Path, files: int, file_bytes: int, per_commit: int = 100, ids: Ids = in_order
) -> int:
    """A table of files of about a size; returns its rows."""
    DeltaRsEngine().execute(str(address), Create(SCHEMA))
    each = max(1, file_bytes // ROW_BYTES)
    for version, start in enumerate(range(0, files, per_commit)):
        lines = []
        for n in range(start, min(files, start + per_commit)):
            numbers = pa.array(ids(n * each, each, files * each))
            orders = rows(each, n * each, n).set_column(0, SCHEMA.field(0), numbers)
            written = write_data_files(str(address), orders, SCHEMA, durability="none")
            lines += [add_line(one, time.time(), data_change=True) for one in written]
        commit_after(place(str(address)), version, LogCommit("WRITE", lines))
    return files * each


def measured(script: str, *words: str) -> dict[str, Any]:
    """What a script's child ``--child`` says of itself."""
    command = [sys.executable, script, "--child", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def watched(script: str, limit_bytes: int, *words: str) -> dict[str, Any] | None:
    """As :func:`measured`, with the most that its processes had resident at once, as ``peak``.

    Returns:
        None where they came above the limit: they were ended then, or failed.
    """
    command = [sys.executable, script, "--child", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peak = 0
        while child.poll() is None:
            peak = max(peak, _resident(child.pid))
            if peak > limit_bytes:
                _end(child.pid)
            time.sleep(_LOOK_EACH_S)
        told = child.stdout.read() if child.stdout is not None else ""
    if child.returncode or peak > limit_bytes:
        return None
    return {**json.loads(told.strip().splitlines()[-1]), "peak": peak}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> int:
    found = 0
    for one in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += one.memory_info().rss
    return found


def _end(pid: int) -> None:
    for one in reversed(_tree(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


class Took:
    """CPU-seconds of this process and those below it, and the clock, from now on."""

    def __init__(self) -> None:
        self._cpu_s = self._cpu()
        self._at = time.perf_counter()

    def told(self, **more: Any) -> None:
        """Print what it took, as the child's last line."""
        peak = sum(one.memory_info().rss for one in self._tree())
        cpu_s, seconds = self._cpu() - self._cpu_s, time.perf_counter() - self._at
        print(json.dumps({"cpu_s": cpu_s, "seconds": seconds, "rss": peak, **more}), flush=True)

    def _cpu(self) -> float:
        times = [one.cpu_times() for one in self._tree()]
        return sum(one.user + one.system for one in times)

    def _tree(self) -> list[psutil.Process]:
        return [psutil.Process(), *psutil.Process().children(recursive=True)]
