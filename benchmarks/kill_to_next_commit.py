"""From a SIGKILL to the next data commit, under steady production; then the account.

After the kill of an owner: the next data commit, which only its successor can make. After the kill
of a consumer: the next data commit of any partition, and the first one that holds records of the
victim's partitions which Kafka got after the kill, so that a new process must have read them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bed import ROOT, Bed, BenchFailed, bed, closing, end, options, spread, table, until

from raylake.delta import log_files
from raylake.kafka.client import Cluster

AIM_S = 5.0
LIMIT_S = 60.0
START_LIMIT_S = 180.0


@dataclass(frozen=True, slots=True)
class Commit:
    """A data commit as its file tells it."""

    version: int
    at: float
    epoch: int
    ranges: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and what it cost; seconds."""

    kind: str
    next_s: float
    recovered_s: float


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("kills", chosen) as made:
        topic = made.topic()
        made.pipeline(topic, commit_interval="1s", keep_value=True, ingest={"consumers": 2})
        stop, record = made.folder / "stop", made.folder / "record.parquet"
        producer = made.start(_steady(made, topic, chosen, record, stop), "steady.log")
        job = made.ingest()
        try:
            kills = _kill_all(made, topic, job, chosen)
        finally:
            stop.touch()
        if producer.wait(60) != 0:
            raise BenchFailed(made.tail("steady.log"))
        print("producer:", made.tail("steady.log").strip())
        _caught_up(made, topic)
        restarts = made.status().get("restarts")
        code = end(job)
        balanced, audit = made.account([record])
        return _report(kills, chosen, {"code": code, "balanced": balanced}, audit, restarts)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=int, default=2000, help="records/s that are produced")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("owner", "consumer"))


def _steady(bed_: Bed, topic: str, chosen: Any, record: Path, stop: Path) -> list[str]:
    command = [sys.executable, "-P", str(ROOT / "benchmarks" / "steady.py")]
    command += ["--bootstrap", bed_.bootstrap, "--topic", topic, "--rate", str(chosen.rate)]
    return [*command, "--record", str(record), "--stop", str(stop)]


def _kill_all(bed_: Bed, topic: str, job: subprocess.Popen[bytes], chosen: Any) -> list[Kill]:
    choose = random.Random(chosen.seed)
    until(lambda: _newest(bed_.table), START_LIMIT_S, "the first data commit")
    kills = []
    with Cluster(bed_.bootstrap, None, 10.0) as cluster:
        sources = list(cluster.topics([topic])[topic].sources())
        for number in range(chosen.kills):
            kind = chosen.only or ("consumer", "owner")[number % 2]
            _settled(bed_)
            time.sleep(choose.uniform(0.5, 2.0))
            if job.poll() is not None:
                raise BenchFailed("the job has ended")
            kill = _kill(bed_, kind, choose, lambda: cluster.latest(sources))
            kills.append(kill)
            print(f"{number:3} {kind:9} {kill.next_s:6.2f} s {kill.recovered_s:6.2f} s", flush=True)
    return kills


def _kill(bed_: Bed, kind: str, choose: random.Random, log_ends: Any) -> Kill:
    status = bed_.status()
    if kind == "owner":
        held = {}
        pid = status["tables"]["bronze.orders"]["owner_pid"]
    else:
        consumer = choose.choice([c for c in status["consumers"].values() if c["partitions"]])
        held, pid = consumer["partitions"], consumer["pid"]
    before = _newest(bed_.table)
    if before is None:
        raise BenchFailed("no commit to begin with")
    killed_at = time.time()
    os.kill(pid, signal.SIGKILL)
    ends = {s.partition: offset for s, offset in log_ends().items() if str(s) in held}

    def is_next(commit: Commit) -> bool:
        return commit.at > killed_at and (kind == "consumer" or commit.epoch > before.epoch)

    def is_recovered(commit: Commit) -> bool:
        fresh = any(p in ends and stop > ends[p] for p, _, stop in commit.ranges)
        return is_next(commit) and (kind == "owner" or fresh)

    def first(wanted: Callable[[Commit], bool]) -> Commit:
        return until(lambda: _first(bed_.table, before.version, wanted), LIMIT_S, f"after {kind}")

    found = first(is_next), first(is_recovered)
    return Kill(kind, found[0].at - killed_at, found[1].at - killed_at)


def _settled(bed_: Bed) -> None:
    """Wait until the status document names living processes for all partitions."""

    def living() -> bool:
        status = bed_.status()
        consumers = status.get("consumers", {}).values()
        owner = status.get("tables", {}).get("bronze.orders", {}).get("owner_pid", 0)
        pids = [owner, *(c["pid"] for c in consumers)]
        held = sum(len(c["partitions"]) for c in consumers)
        return held == 4 and len(pids) == 3 and all(p and Path(f"/proc/{p}").exists() for p in pids)

    until(living, LIMIT_S, "all partitions held again", 0.1)


def _commits(folder: Path, after: int) -> Iterator[Commit]:
    for version in log_files.commit_versions(folder):
        if version > after:
            commit = _read(folder / "_delta_log" / f"{version:020}.json", version)
            if commit is not None:
                yield commit


def _read(path: Path, version: int) -> Commit | None:
    for line in path.read_text().splitlines():
        info = json.loads(line).get("commitInfo")
        if info is None or "raylake" not in info:
            continue
        ours = info["raylake"]
        ours = json.loads(ours) if isinstance(ours, str) else ours
        if ours["kind"] != "data":
            return None
        ranges = tuple((r["partition"], r["start"], r["end"]) for r in ours["ranges"])
        return Commit(version, path.stat().st_mtime_ns / 1e9, int(ours["owner"]) >> 32, ranges)
    return None


def _first(folder: Path, after: int, wanted: Callable[[Commit], bool]) -> Commit | None:
    return next((c for c in _commits(folder, after) if wanted(c)), None)


def _newest(folder: Path) -> Commit | None:
    if not (folder / "_delta_log").is_dir():
        return None
    versions = log_files.commit_versions(folder)
    newest = None
    for commit in _commits(folder, (versions[-1] if versions else 0) - 20):
        newest = commit
    return newest


def _caught_up(bed_: Bed, topic: str) -> None:
    with Cluster(bed_.bootstrap, None, 10.0) as cluster:
        sources = list(cluster.topics([topic])[topic].sources())
        wanted = {str(s): offset for s, offset in cluster.latest(sources).items()}

    def reached() -> bool:
        shown = bed_.status().get("tables", {}).get("bronze.orders", {}).get("partitions", {})
        return all(shown.get(s, {}).get("next", -1) >= end_ for s, end_ in wanted.items())

    until(reached, LIMIT_S, "everything produced is committed", 0.2)


def _report(
    kills: list[Kill], chosen: Any, ended: dict[str, Any], audit: dict[str, Any], restarts: Any
) -> int:
    rows = []
    for kind in ("owner", "consumer"):
        mine = [k for k in kills if k.kind == kind]
        for what, values in (
            ("next data commit", [k.next_s for k in mine]),
            ("victim's new records", [k.recovered_s for k in mine] if kind != "owner" else []),
        ):
            if values:
                rows.append([kind, what, len(values), *spread(values).values()])
    table(rows, ["killed", "until", "kills", "median s", "p95 s", "max s"])
    worst = spread([k.recovered_s for k in kills])
    counted = {k: audit.get(k) for k in ("produced", "rows", "dead_letters", "lost", "duplicated")}
    print(f"account: {counted}, restarts {restarts}, exit code {ended['code']}")
    closing(
        "kill_to_next_commit",
        kills=len(kills),
        rate=chosen.rate,
        **{f"{name}_s": value for name, value in worst.items()},
        within_aim=sum(k.recovered_s <= AIM_S for k in kills),
        lost=audit.get("lost"),
        duplicated=audit.get("duplicated"),
        balanced=ended["balanced"],
    )
    return 0 if ended["balanced"] and ended["code"] == 0 and worst["max"] <= AIM_S else 1


if __name__ == "__main__":
    sys.exit(main())
