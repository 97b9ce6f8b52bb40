"""Ingestion at a steady rate with upkeep beside it, and the same without.

What counts: nothing is refused and no merge fails, ingestion keeps its rate, live files stay few,
commits stay as quick as they were. A short interval of commits makes many small files.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bed
import yaml
from deltalake import DeltaTable

import raylake
from raylake.errors import RayLakeError
from raylake.maintenance.history import History

POLICY = {
    "look_every": "5s",
    "compact": {"small_files": 32},
    "zorder": {"bronze.orders": ["customer_id"]},
    "zorder_depth": 3,
    "budget": {"cpu": "25%"},
}


class Merges:
    """Merges into the table now and then, on the run's own cluster, until told to stop."""

    def __init__(self, made: bed.Bed, every_s: float) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._bed = made
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop, after the merge that is under way."""
        self._stop.set()
        self._thread.join(120)

    def _run(self) -> None:
        address = self._bed.status()["job"]["address"]
        table = raylake.connect(self._bed.lake, address=address).table("bronze.orders")
        while not self._stop.wait(self._every_s):
            try:
                rows = table.read(columns=["_partition", "_offset", "_timestamp"]).to_arrow()
                few = rows.slice(0, 1000)
                table.merge(
                    few, ["_partition", "_offset"], columns=["_timestamp"], insert_when="false"
                )
                self.done += 1
            except RayLakeError as error:
                self.failed.append(str(error))


def run(options: Any, *, tended: bool) -> dict[str, float]:
    """One run; its figures."""
    with bed.bed("beside", options) as made:
        topic = made.topic()
        file = made.pipeline(topic, commit_interval=options.commit_interval)
        if tended:
            document = {**yaml.safe_load(file.read_text()), "maintenance": POLICY}
            file.write_text(yaml.safe_dump(document, sort_keys=False))
        made.ingest()
        stop, script = made.folder / "stop", Path(__file__).with_name("steady.py")
        command = [sys.executable, str(script), "--bootstrap", made.bootstrap, "--topic", topic]
        command += ["--rate", str(options.rate), "--record", str(made.folder / "record")]
        command += ["--stop", str(stop), "--limit-s", str(options.seconds + 300)]
        made.start(command, "steady.log")
        bed.until(lambda: rows(made) > 0, 240, "the first rows")
        merges = Merges(made, options.seconds / 11) if tended and options.merges else None
        first, began, most = rows(made), time.monotonic(), 0
        while time.monotonic() < began + options.seconds:
            time.sleep(1)
            most = max(most, live(made))
        came, seconds = rows(made) - first, time.monotonic() - began
        if merges is not None:
            merges.end()
        stop.touch()
        shown = made.status()["tables"]["bronze.orders"]
        found = {"per_s": came / seconds, "most_live": most, "live": live(made)}
        found["refused"] = float(shown["units_refused"])
        found["commits_per_s"] = shown["commits"] / seconds
        if merges is not None:
            found |= {"merges": merges.done, "merges_failed": len(merges.failed)}
            print("\n".join(merges.failed[:3]))
        if tended:
            found |= actions(made)
        return found


def actions(made: bed.Bed) -> dict[str, float]:
    """What upkeep did, by action, and what of it failed."""
    lines = History(str(made.lake)).read().to_pylist()
    done = Counter(one["action"] for one in lines if one["outcome"] == "done")
    failed = sum(one["outcome"] == "failed" for one in lines)
    return {**{f"{kind}s": float(count) for kind, count in done.items()}, "failed": float(failed)}


def rows(made: bed.Bed) -> int:
    """Offsets that the table accounts for."""
    shown = made.status().get("tables", {}).get("bronze.orders", {})
    return sum((shown.get("totals") or {}).values())


def live(made: bed.Bed) -> int:
    """Live files of the table now."""
    with contextlib.suppress(Exception):
        return len(DeltaTable(str(made.table)).file_uris())
    return 0


def main() -> int:
    """Print both; returns the exit code."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rate", type=int, default=50_000, help="records/s")
        parser.add_argument("--seconds", type=float, default=600.0)
        parser.add_argument("--commit-interval", default="500ms")
        parser.add_argument("--merges", type=int, default=0, help="1: on a shared cluster")

    options = bed.options(__doc__, add)
    alone, beside = run(options, tended=False), run(options, tended=True)
    names = sorted({*alone, *beside})
    bed.table([[n, alone.get(n, "-"), beside.get(n, "-")] for n in names], ["", "without", "with"])
    kept = beside["per_s"] / alone["per_s"]
    good = kept >= 0.95 and not beside["refused"] and not beside["failed"]
    good = good and not beside.get("merges_failed")
    bed.closing("beside_ingestion", kept=kept, rate=options.rate, seconds=options.seconds)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
