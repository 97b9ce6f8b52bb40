"""``raylake adopt``: begin where somebody else's ingestion stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

from raylake.cli.files import load_file, placed
from raylake.cli.options import taking
from raylake.cli.output import FileArgument, Output, OutputOption, SetOption
from raylake.cli.positions import DryRunOption, TableName, offsets_of, tell
from raylake.client.adoption import Others, adopt
from raylake.client.foreign_positions import (
    ConsumerGroup,
    DeltaIngest,
    GivenOffsets,
    Origin,
    SparkCheckpoint,
)
from raylake.clock import SystemClock
from raylake.config.addresses import normalise_table_address
from raylake.config.findings import Invalid
from raylake.errors import ConfigError
from raylake.storage.place import Place, place

app = typer.Typer(add_completion=False)


class Kind(StrEnum):
    """Who has read the topics up to now."""

    spark = "spark-checkpoint"
    group = "group"
    ingest = "kafka-delta-ingest"
    offsets = "offsets"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command is given."""

    file: FileArgument
    table: TableName
    kind: Annotated[Kind, typer.Option("--from", help="Whose position it is.")]
    source: Annotated[
        list[str],
        typer.Option(
            help="The query's checkpointLocation or the job's Delta table, a folder or s3://…; the "
            "group's name; or TOPIC[P]=OFFSET, the next one to read, repeated.",
        ),
    ]
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEY=VALUE",
            help="spark-checkpoint: sink, the query's Delta table; kafka-delta-ingest: app-id and "
            "topic, where there are several; repeated.",
        ),
    ] = None
    others: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE",
            help="The table's partitions that the source does not know: start, as the file says; "
            "later, by another order; or TOPIC[P]=OFFSET, repeated.",
        ),
    ] = None
    dry_run: DryRunOption = False
    set_: SetOption = None
    output: OutputOption = Output.text


@app.command("adopt")
@taking(Options)
def command(given: Options) -> None:
    """Begin where a Spark query, a consumer group or a kafka-delta-ingest job has ended.

    One commit admits the topics' partitions at these offsets, and creates the table when it is not
    there; the next `raylake run` goes on from them. Stop the other one first. It is refused where
    the table takes partitions of which the other one says nothing, unless --others says it.
    """
    origin = origin_of(given.kind, given.source, given.with_ or ())
    others = others_of(given.others or ())
    loaded = load_file(given.file, given.set_)
    with placed(loaded):
        done = adopt(
            loaded, given.table, origin, SystemClock(), others=others, dry_run=given.dry_run
        )
    tell(done, given.output)


def others_of(given: Sequence[str]) -> Others:
    """What becomes of the partitions that the source does not know.

    Raises:
        ConfigError: It is none of the three.
    """
    ends = offsets_of([one for one in given if "=" in one])
    match [one for one in given if "=" not in one]:
        case []:
            return Others(None, ends)
        case ["start" | "later" as way]:
            return Others(way, ends)
    raise ConfigError("--others takes start or later, and positions", hint="see --help")


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
            return SparkCheckpoint(_at(source[0]), None if sink is None else _at(sink))
        case Kind.ingest:
            return DeltaIngest(_at(source[0]), given.get("app-id"), given.get("topic"))
        case _:
            return ConsumerGroup(source[0])


def _at(text: str) -> Place:
    try:
        return place(normalise_table_address(text))
    except Invalid as error:
        finding = error.findings[0]
        raise ConfigError(f"{text}: {finding.message}", hint=finding.hint) from None


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
