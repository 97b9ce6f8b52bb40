"""What the benchmarks stand on: a broker of their own, a pipeline's job, and a closing line.

Each script has its own broker instance, work folder and Ray, and takes them away again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from raylake.config import Pipeline, load
from raylake.demo.events import SCHEMA
from raylake.demo.generate import create_topic
from raylake.errors import RayLakeError
from raylake.kafka.dev import DevBroker

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = "bench"
PARTITIONS = 4
T = Any


class BenchFailed(RuntimeError):
    """The benchmark could not be carried through; its figures mean nothing."""


@dataclass(slots=True)
class Bed:
    """A work folder, a broker in it when asked for, and the processes that a script started.

    Attributes:
        name: The script's name; also the broker's instance.
        folder: The work folder.
        bootstrap: The broker's address; empty when none was asked for.
    """

    name: str
    folder: Path
    bootstrap: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def lake(self) -> Path:
        """The lake."""
        return self.folder / "lake"

    @property
    def table(self) -> Path:
        """The one table."""
        return self.lake / "bronze" / "orders"

    @property
    def dead_letters(self) -> Path:
        """The dead-letter table."""
        return self.lake / "dead_letters" / PIPELINE

    @property
    def status_file(self) -> Path:
        """The status document."""
        return self.lake / "_raylake" / "status" / f"{PIPELINE}.json"

    def topic(self, name: str = "orders", partitions: int = PARTITIONS) -> str:
        """A new topic."""
        create_topic(self.bootstrap, name, partitions)
        return name

    def pipeline(self, *topics: str, **more: Any) -> Path:
        """A pipeline file with one table; ``more`` goes into the table's section."""
        ingest = more.pop("ingest", {})
        section = {"topics": list(topics), "schema": dict(SCHEMA), **more}
        document = {
            "pipeline": PIPELINE,
            "lake": str(self.lake),
            "kafka": {"bootstrap": self.bootstrap},
            "bronze": {"orders": section},
            **({"ingest": ingest} if ingest else {}),
        }
        path = self.folder / "bench.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def config(self) -> Pipeline:
        """The pipeline file, loaded."""
        return load(self.folder / "bench.yaml").config

    def start(self, command: Sequence[str], log: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the script; its output goes to a file."""
        inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        environment = {**inherited, "RAYLAKE_RAY_DIR": str(self.folder / "r"), **environ}
        environment["PYTHONPATH"] = str(ROOT)
        with (self.folder / log).open("wb") as out:
            process = subprocess.Popen(
                list(command),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=self.folder,
            )
        self.processes.append(process)
        return process

    def ingest(self, *flags: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start the ingest job of the pipeline file."""
        command = [sys.executable, "-P", "-m", "jobs.ingest", "--config"]
        return self.start(
            [*command, str(self.folder / "bench.yaml"), *flags], "ingest.log", **environ
        )

    def load(self, topic: str, count: int, **options: Any) -> int:
        """Fill a topic in two processes, as :mod:`load` does; returns how many records are bad."""
        command = [sys.executable, str(ROOT / "benchmarks" / "load.py"), "--topic", topic]
        command += ["--bootstrap", self.bootstrap, "--count", str(count)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        logs = [f"load-{number}.log" for number in range(2)]
        shards = [self.start([*command, "--shard", f"{n}/2"], log) for n, log in enumerate(logs)]
        bad = 0
        for shard, log in zip(shards, logs, strict=True):
            if shard.wait(1800) != 0:
                raise BenchFailed(self.tail(log))
            bad += int(self.told(log)["bad"])
        return bad

    def told(self, log: str) -> dict[str, Any]:
        """The line of JSON with which a process ended."""
        return dict(json.loads((self.folder / log).read_text().splitlines()[-1]))

    def verified(self) -> bool:
        """Whether `raylake verify` (all levels) finds the account balanced."""
        command = [sys.executable, "-P", "-m", "raylake", "verify", str(self.folder / "bench.yaml")]
        done = subprocess.run(
            [*command, "--level", "all", "--output", "json"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if done.returncode != 0:
            print(
                f"verify ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done.returncode == 0

    def account(self, records: Sequence[Path]) -> tuple[bool, dict[str, Any]]:
        """Verify (all levels) and the auditor: whether both balance, and the audit."""
        verified = self.verified()
        command = [sys.executable, "-P", "-m", "raylake.demo.auditor", "--json"]
        command += ["--table", str(self.table), "--dead-letters", str(self.dead_letters)]
        command += ["--record", *map(str, records)]
        audited = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if audited.returncode not in (0, 3):
            raise BenchFailed(f"the auditor failed: {audited.stderr[-2000:]}")
        return verified and audited.returncode == 0, json.loads(audited.stdout)

    def status(self) -> dict[str, Any]:
        """The status document; empty while there is none."""
        try:
            return dict(json.loads(self.status_file.read_bytes()))
        except (OSError, ValueError):
            return {}

    def tail(self, name: str) -> str:
        """The end of a log file."""
        path = self.folder / name
        return f"{name}: {path.read_text(errors='replace')[-3000:]}" if path.exists() else name

    def close(self) -> None:
        """End every process that is still there, with its children."""
        for process in self.processes:
            end(process)


def end(process: subprocess.Popen[bytes], patience_s: float = 60.0) -> int:
    """SIGTERM, then SIGKILL to the process and its children; returns the exit code."""
    children: list[psutil.Process] = []
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    for child in children:
        if child.is_running():
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
    return process.wait()


@contextmanager
def bed(name: str, options: argparse.Namespace, *, broker: bool = True) -> Iterator[Bed]:
    """A bed; taken away at the end, also when the script fails or is interrupted."""
    folder = Path(tempfile.mkdtemp(prefix=f"rlb-{name[:6]}-", dir=options.work))
    made = Bed(name, folder)
    dev = DevBroker(instance=f"bench-{name}-{os.getpid()}") if broker else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if dev is not None:
            made.bootstrap = dev.up().bootstrap
        yield made
    except (BenchFailed, RayLakeError, TimeoutError):
        print(made.tail("ingest.log"))
        print("status:", {k: v for k, v in made.status().items() if k not in ("metrics", "job")})
        raise
    finally:
        # A second one would leave the broker behind.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        made.close()
        if dev is not None:
            dev.down(wipe=True)
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def options(description: str | None, add: Callable[[argparse.ArgumentParser], None]) -> Any:
    """The script's options; ``--work`` and ``--keep`` are everyone's."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where the work folder is made; a short path (Ray's sockets)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the work folder")
    add(parser)
    return parser.parse_args()


def until(holds: Callable[[], T], limit_s: float, what: str, step_s: float = 0.02) -> T:
    """The first truthy result of ``holds``.

    Raises:
        BenchFailed: There was none within ``limit_s``.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(step_s)
    raise BenchFailed(f"{what}: not within {limit_s:.0f} s")


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> None:
    """Print a small table."""
    shown = [list(map(str, head)), *[[_shown(v) for v in row] for row in rows]]
    widths = [max(len(line[i]) for line in shown) for i in range(len(head))]
    for line in shown:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def closing(name: str, **values: Any) -> None:
    """The machine and the closing line ``name=value …``."""
    print(f"machine: {machine()}")
    print(" ".join([f"benchmark={name}", *(f"{k}={_shown(v)}" for k, v in values.items())]))


def machine() -> str:
    """The machine in one line, with its load: other work on it makes figures provisional."""
    memory_gib = psutil.virtual_memory().total / 2**30
    load_1m = psutil.getloadavg()[0]
    return (
        f"{os.cpu_count()} CPUs, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, load {load_1m:.1f}"
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of a sample; the nearest value that was seen."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, p95 and max."""
    return {
        "median": statistics.median(values),
        "p95": quantile(values, 0.95),
        "max": max(values),
    }


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


__all__ = ["Bed", "BenchFailed", "RayLakeError", "bed", "closing", "end", "options", "until"]
