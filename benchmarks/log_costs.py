"""What a commit costs on a table with a long log: refresh, check and commit through OwnedTable.

The table is fabricated: log files that a long run would have left, and live files that are named
there only. The last checkpoint lies as far back as one in production would.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import yaml
from bed import PIPELINE, ROOT, Bed, bed, closing, options, spread, table
from deltalake import DeltaTable

from raylake.clock import SystemClock
from raylake.delta.files import write_data_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec, bronze_properties
from raylake.ingest.status import write_status
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit

SOURCE = SourcePartition("orders", "fabricated", 0)
SCHEMA = pa.schema([("order_id", pa.string()), ("_partition", pa.int32()), ("_offset", pa.int64())])
SINCE_CHECKPOINT = 50


class Cost(NamedTuple):
    """Seconds by the clock, and of CPU with that of children that ended.

    The first grows with the machine's other work, the second hardly.
    """

    wall_s: float
    cpu_s: float


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("log", chosen, broker=False) as made:
        began = time.monotonic()
        made.table.mkdir(parents=True)
        spec = TableSpec(
            str(made.table), SCHEMA, (), bronze_properties(stats_columns=("_partition", "_offset"))
        )
        _fabricate(spec, chosen.log_files, chosen.live_files)
        print(f"fabricated in {time.monotonic() - began:.1f} s")
        attach_s, owner = _timed(lambda: _attach(spec))
        commits = [_commit(owner) for _ in range(chosen.commits)]
        refresh = [_timed(lambda: owner.admit({SOURCE: 0}))[0] for _ in range(chosen.commits)]
        owner.release()
        opens = [_timed(lambda: DeltaTable(made.table))[0] for _ in range(3)]
        status = [_status(made) for _ in range(5)]
        verify = [_raylake(made, 0, "verify", "--level", "log") for _ in range(3)]
        live, logs = len(DeltaTable(made.table).file_uris()), len(_log(made.table))
        return _report(
            {
                "commit + refresh + check": commits,
                "refresh + check alone": refresh,
                "attach (new owner, epoch commit)": [attach_s],
                "open (deltalake)": opens,
                "raylake status FILE, whole process": status,
                "raylake verify --level log, whole process": verify,
            },
            live,
            logs,
        )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-files", type=int, default=20_000)
    parser.add_argument("--live-files", type=int, default=50_000)
    parser.add_argument("--commits", type=int, default=120)


def _attach(spec: TableSpec) -> OwnedTable:
    identity = OwnerIdentity.of_this_process(PIPELINE, "bench")
    return OwnedTable.attach(spec, identity, clock=SystemClock())


def _commit(owner: OwnedTable) -> Cost:
    unit = _unit(owner, owner.states()[SOURCE].next)
    seconds, outcomes = _timed(lambda: owner.commit([unit]))
    if outcomes[0].status != "committed":
        raise SystemExit(f"the unit was {outcomes[0].status}: {outcomes[0].reason}")
    return seconds


def _unit(owner: OwnedTable, start: int, rows: int = 10) -> Unit:
    data = pa.table(
        {
            "order_id": [f"o{start + i}" for i in range(rows)],
            "_partition": pa.array([0] * rows, pa.int32()),
            "_offset": pa.array(range(start, start + rows), pa.int64()),
        },
        schema=owner.schema,
    )
    files = write_data_files(Path(owner.path), data, owner.schema, ())
    span = OffsetRange(SOURCE, start, start + rows, Counts(rows=rows))
    return Unit(PIPELINE, "consumer-0", 1, owner.fingerprint, (span,), files)


def _fabricate(spec: TableSpec, log_files: int, live_files: int) -> None:
    """Repeat the last real commit, with its numbers moved on, and put a checkpoint near the end."""
    owner = _attach(spec)
    owner.admit({SOURCE: 0})
    _commit(owner)
    owner.release()
    folder = spec.root / "_delta_log"
    release = max(_log(spec.root))
    data = _lines(folder, release - 1)
    first = release + 1
    count = log_files - first
    made = 1
    for index in range(count):
        files = (live_files - 1) * (index + 1) // count - (made - 1)
        lines = list(_moved_on(data, index + 2, made, files))
        made += files
        path = folder / f"{first + index:020}.json"
        path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
        if index == count - SINCE_CHECKPOINT:
            DeltaTable(spec.root).create_checkpoint()


def _moved_on(
    data: list[dict[str, Any]], turn: int, made: int, files: int
) -> Iterator[dict[str, Any]]:
    """A data commit like ``data`` with new files of one row each, all numbers moved on."""
    rows_before, rows = 10 + made - 1, files
    for line in data:
        if "txn" in line:
            txn = dict(line["txn"])
            if txn["appId"] == "raylake/owner":
                txn["version"] += turn
            elif txn["appId"].endswith(("/next", "/rows")):
                txn["version"] = rows_before + rows
            yield {"txn": txn}
        elif "commitInfo" in line:
            yield {"commitInfo": _info(line["commitInfo"], turn, rows_before, rows)}
        elif "add" in line:
            for number in range(files):
                offset = rows_before + number
                stats = json.dumps(
                    {
                        "numRecords": 1,
                        "minValues": {"_partition": 0, "_offset": offset},
                        "maxValues": {"_partition": 0, "_offset": offset},
                        "nullCount": {"order_id": 0, "_partition": 0, "_offset": 0},
                    }
                )
                path = f"part-{offset:032x}.zstd.parquet"
                yield {"add": {**line["add"], "path": path, "stats": stats}}


def _info(info: dict[str, Any], turn: int, start: int, rows: int) -> dict[str, Any]:
    ours = info["raylake"]
    document = dict(json.loads(ours) if isinstance(ours, str) else ours)
    document["owner"] += turn
    document["batch"] = f"{turn:032x}"
    document["units"] = [f"{turn:032x}"]
    document["ranges"] = [
        {**document["ranges"][0], "start": start, "end": start + rows, "rows": rows}
    ]
    return {**info, "raylake": json.dumps(document) if isinstance(ours, str) else document}


def _lines(folder: Path, version: int) -> list[dict[str, Any]]:
    text = (folder / f"{version:020}.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _log(root: Path) -> list[int]:
    return [int(path.stem) for path in (root / "_delta_log").glob("*.json") if path.stem.isdigit()]


def _status(made: Bed) -> Cost:
    """Wall time of the whole process, from a document as large as one of a real run."""
    partitions = {
        f"orders[{p}]": {"next": p, "origin": 0, "target": None, "end": p, "max_event_ms": None}
        for p in range(64)
    }
    shown = {"path": str(made.table), "topics": ["orders"], "partitions": partitions}
    write_status(
        made.status_file,
        {
            "pipeline": PIPELINE,
            "run_id": "bench",
            "version": "0",
            "at": time.time(),
            "state": "stopped",
            "job": {},
            "tables": {"bronze.orders": shown},
            "consumers": {},
            "stopped": {},
            "restarts": {},
            "errors": [],
            "error": None,
        },
    )
    return _raylake(made, 0, "status")


def _raylake(made: Bed, exit_code: int, *command: str) -> Cost:
    """Cost of a whole process of the command line, on a pipeline file without a broker."""
    file = made.folder / "bench.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "pipeline": PIPELINE,
                "lake": str(made.lake),
                "kafka": {"bootstrap": "localhost:9092"},
                "bronze": {"orders": {"topics": ["orders"]}},
            }
        )
    )
    words = [sys.executable, "-P", "-m", "raylake", command[0], str(file), *command[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds, done = _timed(
        lambda: subprocess.run(
            [*words, "--output", "json"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=120,
        )
    )
    if done.returncode != exit_code or "orders" not in done.stdout:
        said = f"{done.stdout[-2000:]} {done.stderr[-2000:]}"
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return seconds


def _timed(work: Callable[[], Any]) -> tuple[Cost, Any]:
    began, before = time.perf_counter(), os.times()
    result = work()
    now = os.times()
    return Cost(time.perf_counter() - began, sum(now[:4]) - sum(before[:4])), result


def _report(figures: dict[str, list[Cost]], live: int, logs: int) -> int:
    rows = []
    for what, costs in figures.items():
        wall = spread([cost.wall_s * 1000 for cost in costs])
        cpu = spread([cost.cpu_s * 1000 for cost in costs])["median"]
        rows.append([what, len(costs), *wall.values(), cpu])
    table(rows, ["what", "times", "median ms", "p95 ms", "max ms", "CPU ms"])
    medians = {row[0]: row[2] for row in rows}
    cpu_ms = {row[0]: row[5] for row in rows}
    commit_ms = medians["commit + refresh + check"]
    status_ms = medians["raylake status FILE, whole process"]
    verify_ms = medians["raylake verify --level log, whole process"]
    closing(
        "log_costs",
        log_files=logs,
        live_files=live,
        commit_ms=commit_ms,
        commit_cpu_ms=cpu_ms["commit + refresh + check"],
        attach_ms=medians["attach (new owner, epoch commit)"],
        status_ms=status_ms,
        status_cpu_ms=cpu_ms["raylake status FILE, whole process"],
        verify_ms=verify_ms,
    )
    return 0 if commit_ms <= 100 and status_ms <= 1000 and verify_ms <= 10_000 else 1


if __name__ == "__main__":
    sys.exit(main())
