"""From `lake.submit` to the first data commit on a cluster that runs already, phase by phase.

A head node with its dashboard and a token is started first; then each run has a lake of its own.
The client has been used before: the first submission of a process also imports Ray.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from bed import ROOT, Bed, BenchFailed, bed, closing, options, table, until
from runs import born, commit_times

import raylake

LIMIT_S = 240.0
AIM_S = 20.0


def main() -> int:
    chosen = options(__doc__, _arguments)
    with bed("submit", chosen) as made:
        made.load(made.topic(), 1000)
        subprocess.run([sys.executable, "-m", "raylake.kernels"], check=True, cwd=ROOT)
        url = _cluster(made)
        runs = [_run(made, url, number) for number in range(chosen.runs + 1)]
        first, runs = runs[0], runs[1:]
        before = 0.0
        rows = []
        for name in runs[0]:
            at = statistics.median(run[name] for run in runs)
            rows.append([name, at, at - before, max(run[name] for run in runs)])
            before = at
        table(rows, ["phase ended", "median s", "took s", "max s"])
        closing(
            "submission",
            runs=len(runs),
            first_commit_s=before,
            new_client_s=first["first data commit"],
        )
        return 0 if before <= AIM_S else 1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=3)


def _cluster(made: Bed) -> str:
    """A head node that runs; its Jobs API's address."""
    dashboard, agent, grpc, metrics, client = _free_ports(5)
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The jobs' command is `python`, as in an image.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"]
    words += ["--node-ip-address=127.0.0.1", "--num-cpus=4", f"--temp-dir={made.folder / 'r'}"]
    words += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    words += [f"--dashboard-agent-grpc-port={grpc}", f"--metrics-export-port={metrics}"]
    words += [f"--ray-client-server-port={client}", "--object-store-memory=150000000"]
    made.start(words, "head.log", **variables)
    os.environ |= {name: variables[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    url = f"http://127.0.0.1:{dashboard}"
    until(lambda: _answers(f"{url}/api/version", variables["RAY_AUTH_TOKEN"]), LIMIT_S, "a cluster")
    return url


def _answers(url: str, token: str) -> bool:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def _run(made: Bed, url: str, number: int) -> dict[str, float]:
    shutil.rmtree(made.lake, ignore_errors=True)
    # Ray packs a folder once for the same content: each run has a file of its own.
    file = made.pipeline("orders", commit_interval=f"{1000 + number}ms")
    began = time.time()
    run = raylake.connect(made.lake, url).submit(file)
    submitted = time.time()
    until(
        lambda: run.status().ended or commit_times(made.table).get("data"),
        LIMIT_S,
        "the first data commit",
        0.5,
    )
    view = run.status()
    if view.ended:
        raise BenchFailed(f"the job ended: {view!r}")
    commits = commit_times(made.table)
    found = {
        "the client has submitted": submitted,
        "the job's process begins": float(made.status()["job"]["pid_created_s"]),
        "supervisor begins": born(made, "supervisor"),
        "owner begins": born(made, "owner"),
        "partitions admitted": min(commits["admit"]),
        "first data file": min(p.stat().st_mtime for p in made.table.glob("*.parquet")),
        "first data commit": min(commits["data"]),
    }
    run.drain(LIMIT_S)
    return {name: at - began for name, at in sorted(found.items(), key=lambda item: item[1])}


if __name__ == "__main__":
    sys.exit(main())
