"""What a run is to do: its tables, their topics and places; plain data that travels to actors."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import yaml

from raylake.codecs import parse_schema
from raylake.config.addresses import (
    dead_letter_path,
    normalise_table_address,
    status_path,
    table_path,
)
from raylake.config.bronze import BronzeTable, SchemaFile, TopicPattern
from raylake.config.models import Pipeline
from raylake.delta.spec import TableSpec, bronze_properties
from raylake.errors import ConfigError, UnknownTopic
from raylake.ingest.earlier import EarlierBreakers
from raylake.ingest.unit import SourcePartition
from raylake.layers.bronze import BronzeShape
from raylake.storage.place import Place, place

if TYPE_CHECKING:
    from raylake.kafka.client import Cluster, TopicInfo

STATS_COLUMNS = ("_partition", "_offset", "_timestamp")
RAW_PAYLOAD = pa.schema([pa.field("value", pa.binary())])
WORKING_FORMATS = ("json", "raw")


class NothingToInfer(ConfigError):
    """No schema is given, and the topics hold no record to infer one from."""

    code = "nothing_to_infer"


def new_run_id() -> str:
    """A run's id: sortable by time, unique."""
    now = dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run of a pipeline.

    Attributes:
        config: The pipeline file.
        config_sha256: Of the file as it was read.
        config_path: Where it lies, for messages.
        run_id: The run.
        available_now: Stop at the ends seen at the start.
        take_over: Skip the courtesy towards an owner that may be alive (I11).
        environment: Variables of ours that every process of the run gets; never a secret.
        earlier: The breakers of the run before.
    """

    config: Pipeline
    config_sha256: str
    config_path: str
    run_id: str
    available_now: bool = False
    take_over: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    earlier: EarlierBreakers = field(default_factory=EarlierBreakers)

    @property
    def lake(self) -> str:
        """The lake's normalised address."""
        return normalise_table_address(self.config.lake)

    @property
    def dead_letters(self) -> str:
        """The dead-letter table's folder."""
        return dead_letter_path(self.config)

    @property
    def tends(self) -> bool:
        """Whether the run looks after its tables by itself.

        One that stops when it has caught up does so only where the file has the section.
        """
        config = self.config
        asked = not self.available_now or "maintenance" in config.model_fields_set
        return asked and config.maintenance.enabled

    @property
    def status_file(self) -> Place:
        """The status document."""
        return place(status_path(self.config))


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table of a run.

    Attributes:
        name: ``bronze.orders``.
        path: Its folder.
        config: Its section of the pipeline file.
        sources: The partitions that it takes.
        zorder: Columns that upkeep lays its rows together by.
    """

    name: str
    path: str
    config: BronzeTable
    sources: tuple[SourcePartition, ...]
    zorder: tuple[str, ...] = ()

    @property
    def shape(self) -> BronzeShape:
        """The columns beside the payload."""
        return BronzeShape.of(
            self.config.partition_by,
            keep_value=self.config.keep_value,
            flags=self.config.event_time is not None,
        )

    @property
    def configured_payload(self) -> pa.Schema | None:
        """The payload's schema where the file gives one (or the format has only one).

        Raises:
            ConfigError: The schema file cannot be read.
        """
        if self.config.format == "raw":
            return RAW_PAYLOAD
        schema = self.config.schema_
        if isinstance(schema, SchemaFile):
            return parse_schema(_schema_file(schema))
        return None if schema is None else parse_schema(dict(schema))

    @property
    def stats_columns(self) -> tuple[str, ...]:
        """The columns that statistics are kept of, if only once the table has them.

        Coordinates, the event time, and what upkeep lays rows together by.
        """
        rule = self.config.event_time
        found = (*STATS_COLUMNS, *(() if rule is None else (rule.column,)), *self.zorder)
        return tuple(dict.fromkeys(found))

    def spec(self, payload: pa.Schema | None, config: Pipeline) -> TableSpec:
        """The table as configured; without a payload, what every payload has in common."""
        schema = self.shape.schema(payload if payload is not None else pa.schema([]))
        # Other engines refuse the name of a column that is not there, or partitions the table.
        by = self.shape.partition_names
        later = [one for one in self.zorder if one not in schema.names or one in by]
        return TableSpec(
            self.path,
            schema,
            tuple(by),
            bronze_properties(
                stats_columns=tuple(one for one in self.stats_columns if one not in later),
                log_retention_s=config.ingest.log_retention_s,
                checkpoint_interval_commits=config.ingest.checkpoint_interval_commits,
            ),
            self.zorder,
        )


def table_plans(
    config: Pipeline, cluster: Cluster, missing: dict[str, UnknownTopic] | None = None
) -> list[TablePlan]:
    """The tables of a pipeline with the partitions that exist now.

    Args:
        config: The pipeline file.
        cluster: Kafka.
        missing: Takes listed topics that do not exist; without it they are an error.

    Raises:
        ConfigError: A topic does not exist, a format does not work yet, two sections are one table.
        DependencyUnreachable: No broker answers.
    """
    plans: list[TablePlan] = []
    for key, table in config.bronze.items():
        if table.format not in WORKING_FORMATS:
            raise ConfigError(
                f"bronze.{key}: format {table.format} does not work in this release",
                hint=f"formats that work: {', '.join(WORKING_FORMATS)}",
            )
        plans += _plans_of(config, key, table, _topics_of(table, cluster, missing))
    places: dict[str, str] = {}
    for plan in plans:
        if plan.path in places:
            raise ConfigError(
                f"two tables, {places[plan.path]} and {plan.name}, are both at {plan.path}",
                hint="give one another path",
            )
        places[plan.path] = plan.name
    return plans


def _topics_of(
    table: BronzeTable, cluster: Cluster, missing: dict[str, UnknownTopic] | None
) -> Mapping[str, TopicInfo]:
    if isinstance(table.topics, TopicPattern):
        return cluster.topics(pattern=table.topics.pattern)
    wanted = list(table.topics)
    while True:
        try:
            return cluster.topics(wanted)
        except UnknownTopic as error:
            gone = set(wanted) & set(error.context.get("topics", ()))
            if missing is None or not gone:
                raise
            missing |= {topic: _gone(topic) for topic in gone}
            wanted = [topic for topic in wanted if topic not in gone]


def _gone(topic: str) -> UnknownTopic:
    return UnknownTopic(
        f"topic {topic!r} does not exist any more; its partitions are stopped, the others go on",
        hint="was it deleted on purpose? Take it out of `topics`, or create it again: what is read "
        "of the new one is decided by `on_topic_recreated`",
        topics=[topic],
    )


def _plans_of(
    config: Pipeline, key: str, table: BronzeTable, topics: Mapping[str, TopicInfo]
) -> list[TablePlan]:
    if table.fans_out:
        return [_plan(config, key, table, [info], info.topic) for _, info in sorted(topics.items())]
    return [_plan(config, key, table, list(topics.values()), None)]


def _plan(
    config: Pipeline, key: str, table: BronzeTable, infos: Sequence[TopicInfo], topic: str | None
) -> TablePlan:
    sources = tuple(sorted(source for info in infos for source in info.sources()))
    name = f"bronze.{table.target_name(key, topic)}"
    zorder = tuple(config.maintenance.zorder.get(name, ()))
    return TablePlan(name, table_path(config, f"bronze.{key}", topic), table, sources, zorder)


def _schema_file(schema: SchemaFile) -> dict[str, str]:
    try:
        data = yaml.safe_load(Path(schema.path).read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{schema.path}: the schema file cannot be read: {error}",
            hint="a schema file is a mapping of columns to types, in YAML or JSON",
        ) from error
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise ConfigError(f"{schema.path}: not a mapping of columns to types")
    return {str(name): str(kind) for name, kind in data.items()}
