"""Topics of other shapes, as shares of the flat one: 4 partitions, 198 bytes, batches of 256 KiB.

The share is of records per second where the records are alike, of bytes per second where they are
not; per CPU-second beside it. Measured from the first commit on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bed import Bed, bed, closing, options, table
from runs import Run, ingest

from raylake.demo.events import SCHEMA

CUSTOMER = ("customer_id", "country", "segment")
NESTED = {
    **{name: kind for name, kind in SCHEMA.items() if name not in CUSTOMER},
    "customer": f"struct<{','.join(f'{name}:string' for name in CUSTOMER)}>",
    "lines": "array<struct<sku:string,quantity:long>>",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of topic.

    Attributes:
        title: For the table.
        partitions: Of each topic.
        fewer: The flat topic has this many times as many records.
        bytes_each: A value's size where records differ from the flat one's.
        load: Options of ``load.py``.
        section: More of the table's section of the pipeline file.
    """

    title: str
    partitions: tuple[int, ...] = (4,)
    fewer: int = 1
    bytes_each: int = 0
    load: dict[str, Any] = field(default_factory=dict)
    section: dict[str, Any] = field(default_factory=dict)


FLAT_BYTES = 198
SHAPES = {
    "flat": Shape("flat"),
    "lz4": Shape("flat, lz4", load={"compression": "lz4"}),
    "small": Shape("batches of 16 KiB", load={"batch_bytes": 16 * 1024}),
    "many": Shape("64 partitions of 3 topics", (22, 21, 21)),
    "single": Shape("one record per batch", fewer=4, load={"batch_records": 1}),
    "nested": Shape("nested", bytes_each=294, load={"kind": "nested"}, section={"schema": NESTED}),
    "large": Shape("1 MB messages", fewer=2000, bytes_each=1_000_198, load={"kind": "large"}),
}


def main() -> int:
    chosen = options(__doc__, _arguments)
    names = ["flat", *(name for name in chosen.shapes.split(",") if name != "flat")]
    with bed("shapes", chosen) as made:
        for name in names:
            _fill(made, name, chosen.count)
        runs: dict[str, list[Run]] = {name: [] for name in names}
        for number in range(chosen.rounds + 1):
            for name in names:
                run = _run(made, name, chosen.count)
                # The first round warms up.
                if number:
                    runs[name].append(run)
            print(f"round {number} of {chosen.rounds} done", flush=True)
        return _report(runs)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2_000_000, help="records of the flat topic")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shapes", default=",".join(SHAPES))


def _topics(name: str) -> list[str]:
    return [f"{name}-{number}" for number in range(len(SHAPES[name].partitions))]


def _fill(made: Bed, name: str, count: int) -> None:
    shape = SHAPES[name]
    for topic, partitions, part in zip(
        _topics(name), shape.partitions, _parts(name, count), strict=True
    ):
        made.topic(topic, partitions)
        made.load(topic, part, partitions=partitions, **shape.load)


def _parts(name: str, count: int) -> list[int]:
    """Records of each topic: as many a partition."""
    shape = SHAPES[name]
    return [count // shape.fewer * p // sum(shape.partitions) for p in shape.partitions]


def _run(made: Bed, name: str, count: int) -> Run:
    made.pipeline(*_topics(name), **SHAPES[name].section)
    return ingest(made, sum(_parts(name, count)))


def _report(runs: dict[str, list[Run]]) -> int:
    wall = {name: median(run.steady.per_s for run in found) for name, found in runs.items()}
    cpu = {name: median(run.steady.per_cpu_s for run in found) for name, found in runs.items()}
    rows, shares = [], {}
    for name in runs:
        shape = SHAPES[name]
        weight = shape.bytes_each / FLAT_BYTES if shape.bytes_each else 1.0
        shares[name] = wall[name] / wall["flat"] * weight
        of = "bytes" if shape.bytes_each else "records"
        mb_s = wall[name] * (shape.bytes_each or FLAT_BYTES) / 1e6
        row = [shape.title, runs[name][0].whole.records, int(wall[name]), mb_s, int(cpu[name])]
        rows.append([*row, of, shares[name], cpu[name] / cpu["flat"] * weight])
    head = ["topic", "records", "records/s", "MB/s", "records/CPU-s"]
    table(rows, [*head, "share of", "per s", "per CPU-s"])
    closing("shapes", **shares)
    return 0


if __name__ == "__main__":
    sys.exit(main())
