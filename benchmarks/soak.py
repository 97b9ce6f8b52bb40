"""Soak: steady production for half an hour with a fault every 20 s; then the account.

Faults go by turns: SIGKILL of a consumer, an owner or the dead-letter queue at a crash point; an
I/O error at one; the broker frozen for some seconds. A fault has been recovered from when a data
commit landed after it within ``RECOVERED_S`` and no operator did anything. Memory, the time of
commits and the log folder are sampled at each fault, and the last third is held against the second:
the first one fills buffers.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from bed import ROOT, Bed, BenchFailed, bed, closing, end, options, table, until

from raylake import faults
from raylake.delta import log_files
from raylake.kafka.dev import DevBroker

RECOVERED_S = 60.0
FROZEN_S = 4.0
MOST_GROWTH = 1.15
AIM_RECOVERED = 0.95
LOG_RETENTION = "2m"
ERRORS = ("consumer.writing", "consumer.storing", "owner.before_commit", "dlq.before_commit")
KILLS = tuple(p for p in faults.POINTS if not p.startswith("evolve."))


@dataclass(slots=True)
class Soak:
    """What was seen.

    Attributes:
        samples: By what was measured: seconds since the start, and the value.
        recovered: By kind of fault: seconds to the next commit; None for none in time.
    """

    began: float = field(default_factory=time.time)
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    recovered: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    _last: tuple[float, ...] = (0.0, 0.0)

    def since_last(self, *totals: float) -> tuple[float, ...]:
        """By how much each total has grown since the last time."""
        grown = tuple(now - before for now, before in zip(totals, self._last, strict=True))
        self._last = totals
        return grown

    def growth(self, name: str) -> float:
        """The median of the last third against that of the second."""
        values = [value for _, value in self.samples[name]]
        third = len(values) // 3
        return median(values[-third:]) / median(values[third : 2 * third])


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("soak", chosen) as made:
        folder = made.folder / "faults"
        topic = made.topic()
        made.pipeline(topic, commit_interval="1s", ingest={"log_retention": LOG_RETENTION})
        command = [sys.executable, str(ROOT / "benchmarks" / "pace.py"), "--topic", topic]
        command += ["--bootstrap", made.bootstrap, "--rate", str(chosen.rate), "--bad", "0.001"]
        producer = made.start([*command, "--seconds", str(chosen.seconds)], "pace.log")
        job = made.ingest(**{faults.ENV: str(folder)})
        until(lambda: _newest_s(made.table), 180, "the first commit")
        seen = Soak()
        choose = random.Random(chosen.seed)
        for number in range(max(1, int(chosen.seconds / chosen.every_s) - 1)):
            _wait_for_turn(seen.began + (number + 1) * chosen.every_s)
            if job.poll() is not None:
                raise BenchFailed(f"the job has ended with {job.returncode}")
            _sample(made, seen)
            kind, recovered_s = _fault(made, folder, number, choose)
            seen.recovered[kind].append(recovered_s)
            print(f"{time.time() - seen.began:6.0f} s  {kind:36} {recovered_s}", flush=True)
        if producer.wait(chosen.seconds + 120) != 0:
            raise BenchFailed(made.tail("pace.log"))
        produced = made.told("pace.log")["records"]
        until(lambda: _decided(made) >= produced, 120, "everything produced is decided", 0.5)
        code = end(job)
        return _report(seen, made, code, produced)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--rate", type=int, default=20_000, help="records/s")
    parser.add_argument("--every-s", type=float, default=20.0, help="between faults")
    parser.add_argument("--seed", type=int, default=1)


def _wait_for_turn(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def _fault(made: Bed, folder: Path, number: int, choose: random.Random) -> tuple[str, float | None]:
    """Inflict one; returns its kind and the seconds to the next data commit after it."""
    if number % 10 == 9:
        kind = "broker frozen"
        _freeze(made)
        hit_s = time.time()
    else:
        action = "error" if number % 2 else "kill"
        point = choose.choice(ERRORS if action == "error" else KILLS)
        kind = f"{action} at {point}"
        match = {"kind": "data"} if point in ("owner.after_check", "owner.after_commit") else {}
        before = len(faults.fired(folder))
        faults.arm(folder, point, action=action, name=f"{number:04}", match=match)
        until(lambda: len(faults.fired(folder)) > before, 60, f"{kind} fires")
        hit_s = float(faults.fired(folder)[-1]["at"])
    try:
        until(lambda: _newest_s(made.table) > hit_s, RECOVERED_S, f"a commit after {kind}")
    except BenchFailed:
        return kind, None
    return kind, _newest_s(made.table) - hit_s


def _freeze(made: Bed) -> None:
    """Stop the broker's process for a while."""
    info = DevBroker(instance=f"bench-{made.name}-{os.getpid()}").status()
    if info is None:
        raise BenchFailed("the broker has gone")
    os.kill(info.pid, signal.SIGSTOP)
    time.sleep(FROZEN_S)
    os.kill(info.pid, signal.SIGCONT)


def _newest_s(folder: Path) -> float:
    """When the newest data commit was written; 0 while there is none."""
    if not (folder / "_delta_log").is_dir():
        return 0.0
    for version in reversed(log_files.commit_versions(folder)[-20:]):
        ours = log_files.our_metadata(log_files.read_commit(folder, version) or [])
        if ours and ours["kind"] == "data":
            return log_files.commit_path(folder, version).stat().st_mtime
    return 0.0


def _decided(made: Bed) -> int:
    """Offsets that the table's ledger accounts for."""
    totals = made.status().get("tables", {}).get("bronze.orders", {}).get("totals", {})
    return sum(totals.values())


def _sample(made: Bed, seen: Soak) -> None:
    status = made.status()
    at = time.time() - seen.began
    shown = status.get("tables", {}).get("bronze.orders", {})
    pids = {f"consumer {n}": c["pid"] for n, c in enumerate(status.get("consumers", {}).values())}
    mib = 0.0
    for pid in [*pids.values(), shown.get("owner_pid", 0)]:
        try:
            mib += psutil.Process(pid).memory_info().rss / 2**20 if pid else 0.0
        except psutil.NoSuchProcess:
            continue
    seen.samples["memory of consumers and owner, MiB"].append((at, mib))
    metrics = status.get("metrics", {})
    spent, count = (
        sum(v for k, v in metrics.items() if k.startswith(f"raylake_commit_seconds_{what}"))
        for what in ("sum", "count")
    )
    spent, count = seen.since_last(spent, count)
    if count:
        seen.samples["a commit, ms"].append((at, 1000 * spent / count))
    files = len(list((made.table / "_delta_log").iterdir()))
    seen.samples["files in the log folder"].append((at, files))


def _report(seen: Soak, made: Bed, code: int, produced: int) -> int:
    rows = []
    for kind, found in sorted(seen.recovered.items()):
        good = [one for one in found if one is not None]
        times = [median(good), max(good)] if good else ["-", "-"]
        rows.append([kind, len(found), len(good), *times])
    table(rows, ["fault", "times", "recovered", "median s", "max s"])
    growth = {name: seen.growth(name) for name in seen.samples}
    rows = []
    for name, sampled in seen.samples.items():
        values = [value for _, value in sampled]
        rows.append([name, values[0], values[len(values) // 2], values[-1], growth[name]])
    table(rows, ["over time", "first", "middle", "last", "last third / second"])
    balanced = made.verified()
    every = [one for found in seen.recovered.values() for one in found]
    share = sum(one is not None for one in every) / len(every)
    closing(
        "soak",
        records=produced,
        faults=len(every),
        recovered_share=share,
        balanced=balanced,
        exit_code=code,
        **{f"growth_of_{name.split()[0]}_{name.split()[-1]}": v for name, v in growth.items()},
    )
    flat = all(one <= MOST_GROWTH for one in growth.values())
    return int(not (balanced and code == 0 and share >= AIM_RECOVERED and flat))


if __name__ == "__main__":
    sys.exit(main())
