"""What the commands that move positions share: their options and their answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from raylake.cli.output import Output, print_json, printable, stdout
from raylake.client.foreign_positions import describe
from raylake.client.position_orders import Done, PartitionMove
from raylake.errors import ConfigError
from raylake.ingest.unit import partition_names

_POSITION = re.compile(r"(?P<topic>[^\[\]=]+)\[(?P<partition>\d+)\]=(?P<offset>\d+)")

TableName = Annotated[str, typer.Argument(help="Such as bronze.orders.", show_default=False)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check all of it, change nothing.")]
ToOption = Annotated[
    list[str],
    typer.Option("--to", metavar="TOPIC[P]=OFFSET", help="The next one to read; repeated."),
]


def offsets_of(given: Sequence[str] | None) -> dict[str, dict[int, int]]:
    """``orders[0]=12`` as the next offset by topic and partition.

    Raises:
        ConfigError: One is written otherwise, or a partition is named twice.
    """
    found: dict[str, dict[int, int]] = {}
    for text in given or ():
        match = _POSITION.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                f"{text!r} is not a position", hint="write 'orders[0]=1200', in quotes"
            )
        of_topic = found.setdefault(match["topic"], {})
        if int(match["partition"]) in of_topic:
            raise ConfigError(f"{match['topic']}[{match['partition']}] is named twice")
        of_topic[int(match["partition"])] = int(match["offset"])
    return found


def tell(done: Done, output: Output) -> None:
    """Print what an order did, or would do."""
    if output is Output.json:
        print_json(done.to_dict())
        return
    console = stdout()
    if note := done.note.get("adopted"):
        console.print(f"from {printable(describe(note))}")
    for topic in done.note.get("ignored_topics", ()):
        console.print(f"not taken by {printable(done.table)}: topic {printable(topic)}")
    names = partition_names(one.source for one in done.partitions)
    for one in done.partitions:
        console.print(f"  {printable(names[one.source])}: {_line(done, one)}")
    for left in done.note.get("left", ()):
        name = printable(f"{left['topic']}[{left['partition']}]")
        console.print(f"  {name}: no position by this; a run begins it at {left['begins']:,}")
    for warning in done.warnings:
        console.print(f"warning: {printable(warning)}")
    console.print(_last(done))


def _line(done: Done, one: PartitionMove) -> str:
    note = f" ({one.note})" if one.note else ""
    if one.was is None:
        return f"begins at {one.now.next:,}{note}"
    before: Any = one.was
    many = one.now.next - before.next
    moved = f"from {before.next:,} to {one.now.next:,}"
    if done.order == "skip":
        return f"{moved}: {many:,} offsets are dropped{note}"
    taken = done.note.get("taken_back", {}).get(str(one.source), {})
    left = ", ".join(f"{count:,} {name}" for name, count in taken.items() if count)
    return f"{moved}: {-many:,} offsets are read again, {left} taken back{note}"


def _last(done: Done) -> str:
    table = printable(done.table)
    if not done.partitions:
        return f"{table}: stands there already; nothing to do"
    if done.dry_run:
        return f"{table}: dry run, nothing was changed"
    return f"{table}: {done.order} is done, the table is at version {done.version}"
