"""Consumers that come and go: a partition's hand-over, lag to more consumers, CPU per record.

Hand-over, under steady production: from the moment when a consumer was told to release partitions
(the supervisor's log) to the first data commit of any of them by the one that got them: behind as
it is, with a small buffer, it comes to the others by turns. Lag to more: from
the status document that shows a lag above the bound to the moment when the further consumer got
partitions. CPU per record: the same topic with 1, 2 and 4 consumers, of consumers and owner alone,
all of them started before the first record is read; what their start takes is told apart.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import shutil
import sys
import time
from pathlib import Path

from bed import ROOT, Bed, BenchFailed, bed, closing, end, options, table, until
from runs import WORKERS, Figures, commit_times
from tree import Tree

from raylake.delta import log_files

AIM_HAND_OVER_S = 2.0
AIM_MORE_S = 10.0
AIM_CPU = 1.1
PARTITIONS = 8
INTERVAL_S = 1.0
LAG_S = 2.0
LIMIT_S = 90.0


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("scaling", chosen) as made:
        moved = _moves(made, chosen)
        per_record = _cpu(made, chosen)
    table(list({**moved, **per_record}.items()), ("what", "seconds"))
    each = [value for name, value in per_record.items() if name.startswith("CPU")]
    ratio = each[-1] / each[0]
    met = (
        moved["hand-over"] <= AIM_HAND_OVER_S
        and moved["lag to more"] <= AIM_MORE_S
        and moved["balanced"]
        and ratio <= AIM_CPU
    )
    closing(
        "scaling",
        hand_over_s=moved["hand-over"],
        lag_to_more_s=moved["lag to more"],
        balanced=bool(moved["balanced"]),
        cpu_ratio=ratio,
        aims_met=met,
    )
    return 0 if met else 1


def _moves(made: Bed, chosen: argparse.Namespace) -> dict[str, float]:
    """Steady records, then a backlog that one consumer is too slow for."""
    topic = made.topic("moves", PARTITIONS)
    scaled = {"min": 1, "max": 2, "lag": f"{LAG_S:g}s", "down_after": "10s"}
    # What a consumer may hold between two commits keeps it below what comes.
    made.pipeline(
        topic,
        commit_interval=f"{INTERVAL_S:g}s",
        max_batch_bytes="64KiB",
        keep_value=True,
        ingest={"consumers": scaled, "buffer": "512KiB"},
    )
    stop, record = made.folder / "stop", made.folder / "record.parquet"
    job = made.ingest()
    until(lambda: made.status().get("state") == "running", LIMIT_S, "a running job")
    producer = made.start(_steady(made, topic, chosen.rate, record, stop), "steady.log")
    try:
        lagging = until(lambda: _lagging(made), LIMIT_S, "a lag")
        until(lambda: _second_reads(made), LIMIT_S, "a second consumer")
        time.sleep(4 * INTERVAL_S)
    finally:
        stop.touch()
    if producer.wait(60) != 0:
        raise BenchFailed(made.tail("steady.log"))
    until(lambda: _one_left(made), LIMIT_S, "one consumer again")
    code = end(job)
    balanced, audit = made.account([record])
    print("the auditor:", {k: audit[k] for k in ("produced", "rows", "balanced") if k in audit})
    asked_s, moved = _told(made, r"consumer-0 is to release (.*)")
    got_s, _ = _told(made, r"consumer-1 gets (.*), generation")
    return {
        "hand-over": _hand_over_s(made, got_s, moved, asked_s),
        "of that, until released and granted": got_s - asked_s,
        "lag to more": got_s - lagging,
        "balanced": float(balanced and code == 0),
    }


def _steady(made: Bed, topic: str, rate: int, record: Path, stop: Path) -> list[str]:
    command = [sys.executable, "-P", str(ROOT / "benchmarks" / "steady.py")]
    command += ["--bootstrap", made.bootstrap, "--topic", topic, "--rate", str(rate)]
    command += ["--partitions", str(PARTITIONS)]
    return [*command, "--record", str(record), "--stop", str(stop)]


def _lagging(made: Bed) -> float:
    found = made.status()
    return found["at"] if (found.get("scaling") or {}).get("lag_s", 0.0) > LAG_S else 0.0


def _readers(made: Bed) -> list[str]:
    consumers = made.status().get("consumers", {})
    return [name for name, one in consumers.items() if one["partitions"]]


def _second_reads(made: Bed) -> bool:
    return len(_readers(made)) == 2


def _one_left(made: Bed) -> bool:
    return len(_readers(made)) == 1


def _told(made: Bed, what: str) -> tuple[float, set[int]]:
    """When the supervisor said this first, seconds since the epoch, and which partitions."""
    for path in sorted((made.lake / "_raylake" / "logs").rglob("supervisor*.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            found = re.match(what, line["message"])
            if found:
                at_s = dt.datetime.fromisoformat(line["time"]).timestamp()
                return at_s, {int(number) for number in re.findall(r"\[(\d+)\]", found[1])}
    raise BenchFailed(f"the supervisor did not say {what!r}")


def _hand_over_s(made: Bed, got_s: float, moved: set[int], asked_s: float) -> float:
    """Until the first of the partitions was committed again by the one that got it."""
    first: dict[int, float] = {}
    for version in log_files.commit_versions(made.table):
        ours = log_files.our_metadata(log_files.read_commit(made.table, version) or [])
        at_s = log_files.commit_path(made.table, version).stat().st_mtime
        for one in (ours or {}).get("ranges", ()):
            if at_s > got_s:
                first.setdefault(one["partition"], at_s)
    again = [first[number] for number in moved & first.keys()]
    if not again:
        raise BenchFailed(f"none of the partitions {moved} was committed again")
    return min(again) - asked_s


def _cpu(made: Bed, chosen: argparse.Namespace) -> dict[str, float]:
    """CPU seconds a million records of consumers and owner, by the number of consumers."""
    topic = made.topic("all", PARTITIONS)
    held = _held_by_hand(made, topic)
    made.load(topic, chosen.count, partitions=PARTITIONS)
    found: dict[str, float] = {}
    for number in chosen.consumers:
        start_s, steady = _under_way(made, topic, number, chosen.count, held)
        found[f"CPU s a million records, {number} consumers"] = 1e6 / steady.per_cpu_s
        found[f"  their start and the owner's, {number} consumers"] = start_s
    return found


def _held_by_hand(made: Bed, topic: str) -> bytes:
    """A status document with which the next run begins under an open breaker: it reads nothing."""
    made.pipeline(topic)
    job = made.ingest()
    until(lambda: made.status().get("state") == "running", LIMIT_S, "a running job")
    _breaker(made, "trip")
    if end(job) != 0:
        raise BenchFailed(made.tail("ingest.log"))
    return made.status_file.read_bytes()


def _breaker(made: Bed, do: str) -> None:
    command = [sys.executable, "-P", "-m", "raylake", "breaker", do]
    command += [str(made.folder / "bench.yaml"), "--dependency", "broker"]
    done = made.start(command, "breaker.log")
    if done.wait(LIMIT_S) != 0:
        raise BenchFailed(made.tail("breaker.log"))


def _under_way(
    made: Bed, topic: str, consumers: int, count: int, held: bytes
) -> tuple[float, Figures]:
    """CPU seconds until all consumers could read, and from then on.

    They start beside a breaker that is held open, and read when it is closed. What they read ahead
    of the commits, and the memory that each process takes, is in it.
    """
    made.pipeline(topic, commit_interval=f"{INTERVAL_S:g}s", ingest={"consumers": consumers})
    shutil.rmtree(made.lake, ignore_errors=True)
    made.status_file.parent.mkdir(parents=True)
    made.status_file.write_bytes(held)
    job = made.ingest()
    with Tree(job.pid) as tree:
        until(lambda: _waiting(made) == consumers, LIMIT_S, "consumers that wait")
        time.sleep(2 * INTERVAL_S)
        began_s = time.time()
        _breaker(made, "reset")
        until(lambda: _committed(made) == count, LIMIT_S, "all records")
        time.sleep(INTERVAL_S)
        code = end(job)
    if code != 0:
        raise BenchFailed(made.tail("ingest.log"))
    ended_s, start_s = max(commit_times(made.table)["data"]), tree.cpu_s(began_s, WORKERS)
    return start_s, Figures(count, ended_s - began_s, tree.cpu_s(ended_s, WORKERS) - start_s)


def _waiting(made: Bed) -> int:
    consumers = made.status().get("consumers", {}).values()
    return sum(one["state"] == "waiting" and bool(one["partitions"]) for one in consumers)


def _committed(made: Bed) -> int:
    tables = made.status().get("tables", {}).values()
    return sum(one["totals"]["rows"] for one in tables if "totals" in one)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=8_000_000, help="records of the CPU's runs")
    parser.add_argument("--rate", type=int, default=12_000, help="records/s while partitions move")
    parser.add_argument("--consumers", type=int, nargs="+", default=[1, 2, 4])


if __name__ == "__main__":
    raise SystemExit(main())
