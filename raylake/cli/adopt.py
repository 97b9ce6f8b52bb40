"""``raylake adopt``: begin where somebody else's ingestion stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from raylake.cli.files import load_file, placed
from raylake.cli.output import FileArgument, Output, OutputOption
from raylake.cli.positions import DryRunOption, TableName, offsets_of, tell
from raylake.client.foreign_positions import (
    ConsumerGroup,
    DeltaIngest,
    GivenOffsets,
    Origin,
    SparkCheckpoint,
)
from raylake.client.position_orders import adopt
from raylake.clock import SystemClock
from raylake.errors import ConfigError

app = typer.Typer(add_completion=False)


class Kind(StrEnum):
    """Who has read the topics up to now."""

    spark = "spark-checkpoint"
    group = "group"
    ingest = "kafka-delta-ingest"
    offsets = "offsets"


@app.command("adopt")
def command(
    file: FileArgument,
    table: TableName,
    kind: Annotated[Kind, typer.Option("--from", help="Whose position it is.")],
    source: Annotated[
        list[str],
        typer.Option(
            help="The query's checkpointLocation; the group's name; the job's Delta table; or "
            "TOPIC[P]=OFFSET, the next one to read, repeated.",
        ),
    ],
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEY=VALUE",
            help="spark-checkpoint: sink, the query's Delta table; kafka-delta-ingest: app-id and "
            "topic, where there are several; repeated.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.text,
) -> None:
    """Begin where a Spark query, a consumer group or a kafka-delta-ingest job has ended.

    One commit admits the topics' partitions at these offsets, and creates the table when it is not
    there; the next `raylake run` goes on from them. Stop the other one first.
    """
    origin = origin_of(kind, source, with_ or ())
    loaded = load_file(file)
    with placed(loaded):
        done = adopt(loaded, table, origin, SystemClock(), dry_run=dry_run)
    tell(done, output)


_MORE: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.spark: ("sink",),
    Kind.ingest: ("app-id", "topic"),
}


def origin_of(kind: Kind, source: Sequence[str], more: Sequence[str]) -> Origin:
    """Who has read the topics up to now.

    Raises:
        ConfigError: The options do not go together.
    """
    if kind is Kind.offsets:
        _pairs(kind, more)
        return GivenOffsets(offsets_of(source))
    if len(source) != 1 or not source[0]:
        raise ConfigError(f"--from {kind.value} takes one --source", hint="see --help")
    given = _pairs(kind, more)
    match kind:
        case Kind.spark:
            sink = given.get("sink")
            return SparkCheckpoint(Path(source[0]), None if sink is None else Path(sink))
        case Kind.ingest:
            return DeltaIngest(Path(source[0]), given.get("app-id"), given.get("topic"))
        case _:
            return ConsumerGroup(source[0])


def _pairs(kind: Kind, more: Sequence[str]) -> dict[str, str]:
    known = _MORE.get(kind, ())
    given = dict(text.partition("=")[::2] for text in more)
    for key, value in given.items():
        if key not in known or not value:
            raise ConfigError(
                f"--with {key}={value} does not go with --from {kind.value}",
                hint=f"it takes {' and '.join(f'{one}=…' for one in known) or 'none'}",
            )
    return given
