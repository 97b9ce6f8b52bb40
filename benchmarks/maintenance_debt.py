"""What it takes to know a table's debt, by its number of files: anew, and from the kept state.

The logs are made up: a checkpoint that names the files, with statistics, and commits after it that
each bring ten files and take one away. No data file exists, and none is asked for.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylake.maintenance.kept_state import keep
from raylake.maintenance.plan import look, plan
from raylake.maintenance.policy import Policy

T = TypeVar("T")

COMMITS = 10
ADDS = 10
PARTITIONS = 20
FIELDS = [
    {"name": "id", "type": "long", "nullable": True, "metadata": {}},
    {"name": "customer", "type": "string", "nullable": True, "metadata": {}},
    {"name": "day", "type": "string", "nullable": True, "metadata": {}},
]
METADATA = {
    "id": "00000000-0000-4000-8000-000000000000",
    "format": {"provider": "parquet", "options": {}},
    "schemaString": json.dumps({"type": "struct", "fields": FIELDS}),
    "partitionColumns": ["day"],
    "configuration": {},
    "createdTime": 0,
}
_TEXTS = pa.map_(pa.string(), pa.string())
_METADATA = pa.struct(
    [
        ("id", pa.string()),
        ("format", pa.struct([("provider", pa.string()), ("options", _TEXTS)])),
        ("schemaString", pa.string()),
        ("partitionColumns", pa.list_(pa.string())),
        ("configuration", _TEXTS),
        ("createdTime", pa.int64()),
    ]
)
_PROTOCOL = pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])
PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}


def main() -> int:
    """Print one line for each number of files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    policy = Policy(zorder=("id", "customer"))
    # What is loaded once in a process is not the table's.
    with tempfile.TemporaryDirectory() as folder:
        fabricate(Path(folder), 10)
        plan(folder, policy)
    print("seconds by the clock / of CPU")
    print(
        "files       state MiB          anew  kept (median)   kept (worst)          plan   peak MiB"
    )
    for files in chosen.files:
        root = Path(tempfile.mkdtemp(prefix="raylake-debt-"))
        try:
            _measure(root, files, policy, chosen.rounds)
        finally:
            shutil.rmtree(root)
    return 0


def _measure(root: Path, files: int, policy: Policy, rounds: int) -> None:
    table, at = root / "t", root / "kept.arrow"
    fabricate(table, files)
    anew, found = _timed(lambda: look(str(table), policy))
    keep(at, found.state)
    rng = np.random.default_rng(1)
    for number in range(1, COMMITS + 1):
        _commit(table, number, files, rng)
    again = look(str(table), policy)
    times = [_timed(lambda: look(str(table), policy, at=at)) for _ in range(rounds)]
    assert {one.debt for _, one in times} == {again.debt}
    planned, _ = _timed(lambda: plan(str(table), policy, at=at))
    kept = sorted(cost for cost, _ in times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    costs = "".join(
        f" {wall_s:6.3f} /{cpu_s:6.3f}"
        for wall_s, cpu_s in (anew, kept[len(kept) // 2], kept[-1], planned)
    )
    print(f"{files:<11,} {at.stat().st_size / 2**20:9.1f} {costs} {peak:10,.0f}", flush=True)


def fabricate(table: Path, files: int) -> None:
    """A log of a checkpoint with so many files."""
    log = table / "_delta_log"
    log.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lows = rng.integers(0, 10**9, files)
    highs = lows + rng.integers(0, 10**6, files)
    sizes = rng.integers(2**20, 2**28, files)
    adds = pa.StructArray.from_arrays(
        [
            pa.array([_path(n, n % PARTITIONS) for n in range(files)]),
            pa.MapArray.from_arrays(
                pa.array(np.arange(files + 1, dtype=np.int32)),
                pa.repeat("day", files),
                pa.array([f"2026-01-{n % PARTITIONS + 1:02}" for n in range(files)]),
            ),
            pa.array(sizes),
            pa.array([_stats(int(a), int(b)) for a, b in zip(lows, highs, strict=True)]),
        ],
        names=["path", "partitionValues", "size", "stats"],
    )
    head = pa.table(
        {"metaData": [METADATA, None], "protocol": [None, PROTOCOL]},
        pa.schema([("metaData", _METADATA), ("protocol", _PROTOCOL)]),
    )
    rows = pa.concat_tables([head, pa.table({"add": adds})], promote_options="default")
    pq.write_table(rows, log / f"{0:020d}.checkpoint.parquet", row_group_size=100_000)
    lines = [{"protocol": PROTOCOL}, {"metaData": METADATA}]
    (log / f"{0:020d}.json").write_text("\n".join(map(json.dumps, lines)))


def _commit(table: Path, number: int, files: int, rng: np.random.Generator) -> None:
    gone = int(rng.integers(0, files))
    lines: list[dict[str, object]] = [
        {"commitInfo": {"timestamp": int(time.time() * 1000)}},
        {
            "remove": {
                "path": _path(gone, gone % PARTITIONS),
                "deletionTimestamp": 1,
                "dataChange": True,
                "size": 2**20,
            }
        },
    ]
    for n in range(ADDS):
        low = int(rng.integers(0, 10**9))
        lines.append(
            {
                "add": {
                    "path": _path(files + number * ADDS + n, n),
                    "partitionValues": {"day": f"2026-01-{n + 1:02}"},
                    "size": 2**20,
                    "modificationTime": 0,
                    "dataChange": True,
                    "stats": _stats(low, low + 10**8),
                }
            }
        )
    text = "\n".join(json.dumps(one) for one in lines)
    (table / "_delta_log" / f"{number:020d}.json").write_text(text)


def _path(number: int, partition: int) -> str:
    return f"day=2026-01-{partition + 1:02}/part-{number:08}-7d9c1c2e-4f0b-4a53-9d63-c000.parquet"


def _stats(low: int, high: int) -> str:
    ends = [f'{{"id":{one},"customer":"customer-{one:012}"}}' for one in (low, high)]
    none = '{"id":0,"customer":0}'
    return f'{{"numRecords":1000,"minValues":{ends[0]},"maxValues":{ends[1]},"nullCount":{none}}}'


def _timed(work: Callable[[], T]) -> tuple[tuple[float, float], T]:
    began, used = time.perf_counter(), time.process_time()
    found = work()
    return (time.perf_counter() - began, time.process_time() - used), found


if __name__ == "__main__":
    raise SystemExit(main())
