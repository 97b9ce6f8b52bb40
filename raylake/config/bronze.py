"""The ``bronze`` section: topics that become append-only tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from raylake.config.addresses import check_name, normalise_table_address
from raylake.config.base import Column, Model, choose_shape
from raylake.config.columns import PartitionField, check_type, parse_partition
from raylake.config.findings import Finding, Invalid
from raylake.config.units import (
    Count,
    DurationOrZeroS,
    DurationS,
    Natural,
    SizeBytes,
    Truth,
    is_from_file,
    kind_of,
)

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def check_topic(text: str) -> str:
    """A topic's name, as Kafka allows it.

    Raises:
        Invalid: Kafka would refuse the name.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in (".", ".."):
        hint = (
            "write {pattern: '…'} if a pattern is meant" if re.search(r"[*\\+()\[]", text) else ""
        )
        raise Invalid(f"{text!r} cannot be a topic's name", hint)
    return text


Topic = Annotated[str, AfterValidator(check_topic)]


class TopicPattern(Model):
    """Every topic whose whole name the regular expression matches, also those created later."""

    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        if value in ("", "*"):
            raise Invalid("this pattern names no topics", "write '.*' for all of them")
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise Invalid(f"the pattern does not compile: {error}") from None
        return value

    def matches(self, topic: str) -> bool:
        """Whether the topic is one of these."""
        return re.fullmatch(self.pattern, topic) is not None


def _topics_shape(value: Any) -> str | None:
    if isinstance(value, Mapping | TopicPattern):
        return "<pattern>"
    return "<list>" if isinstance(value, list | tuple) else None


Topics = Annotated[
    Annotated[tuple[Topic, ...], Field(min_length=1), Tag("<list>")]
    | Annotated[TopicPattern, Tag("<pattern>")],
    choose_shape(_topics_shape, "topics is a list such as [clicks], or {pattern: 'click.*'}"),
]


class Earliest(Model):
    """From the first offset that Kafka still has."""

    kind: ClassVar[Literal["earliest"]] = "earliest"

    @model_serializer
    def _text(self) -> str:
        return self.kind


class Latest(Model):
    """From the end of each partition as it is when the table first sees it."""

    kind: ClassVar[Literal["latest"]] = "latest"

    @model_serializer
    def _text(self) -> str:
        return self.kind


def _moment(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and not is_from_file(info):
        return value
    hint = "write 2025-01-31T08:00:00Z"
    if not isinstance(value, str):
        raise Invalid(f"a timestamp is text with a zone, not {kind_of(value)}", hint)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Invalid(f"{value!r} is not a timestamp", hint) from None
    if moment.tzinfo is None:
        if len(value) > 10:
            raise Invalid(f"{value!r} has no zone", f"write {value}Z if UTC is meant")
        moment = moment.replace(tzinfo=UTC)
    # The year 1 with a zone lies before what timestamp() can say on some platforms.
    ms = round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    if ms < 0:
        raise Invalid(f"{value!r} is before 1970")
    return ms


class FromTimestamp(Model):
    """From the first record at or after a moment, by the broker's timestamps.

    Attributes:
        timestamp_ms: Milliseconds since the epoch.
    """

    kind: ClassVar[Literal["timestamp"]] = "timestamp"
    timestamp_ms: Annotated[
        int,
        BeforeValidator(_moment),
        WithJsonSchema({"type": "string", "examples": ["2025-01-31T08:00:00Z", "2025-01-31"]}),
    ] = Field(alias="timestamp")


class FromOffsets(Model):
    """From given offsets, ``{topic: {partition: offset}}``; what is not named starts at earliest.

    With a single topic the file may leave its name out: ``{partition: offset}``.
    """

    kind: ClassVar[Literal["offsets"]] = "offsets"
    offsets: Annotated[
        dict[Topic, dict[Natural, Natural]],
        Field(min_length=1),
        WithJsonSchema(
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": ["object", "integer"]},
                "examples": [{"orders": {"0": 1000}}, {"0": 1000}],
            }
        ),
    ]

    @field_validator("offsets", mode="before")
    @classmethod
    def _by_topic(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not any(isinstance(v, Mapping) for v in value.values()):
            raise Invalid(
                "which topic are these offsets of?",
                "write offsets: {TOPIC: {PARTITION: OFFSET}}; only one topic needs no name",
            )
        return value


class FromGroup(Model):
    """From the committed offsets of a consumer group."""

    kind: ClassVar[Literal["group"]] = "group"
    group: str = Field(min_length=1)


_STARTS: Final[tuple[type[Model], ...]] = (Earliest, Latest, FromTimestamp, FromOffsets, FromGroup)


def _start_shape(value: Any) -> str | None:
    for model in _STARTS:
        if isinstance(value, model):
            return f"<{getattr(model, 'kind', '')}>"
    if isinstance(value, str) and value in ("earliest", "latest"):
        return f"<{value}>"
    if isinstance(value, Mapping):
        for kind in ("timestamp", "offsets", "group"):
            if kind in value or f"{kind}_ms" in value:
                return f"<{kind}>"
    return None


def _from_word(value: Any) -> Any:
    return {} if isinstance(value, str) else value


def _word(word: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "const": word})


Start = Annotated[
    Annotated[Earliest, BeforeValidator(_from_word), _word("earliest"), Tag("<earliest>")]
    | Annotated[Latest, BeforeValidator(_from_word), _word("latest"), Tag("<latest>")]
    | Annotated[FromTimestamp, Tag("<timestamp>")]
    | Annotated[FromOffsets, Tag("<offsets>")]
    | Annotated[FromGroup, Tag("<group>")],
    choose_shape(
        _start_shape,
        "start is earliest, latest, {timestamp: …}, {offsets: …} or {group: …}",
    ),
]


class SchemaFile(Model):
    """The schema is in a file beside the pipeline file (or at an absolute path)."""

    path: str = Field(min_length=1)

    @model_serializer
    def _text(self) -> str:
        return self.path


def _schema_shape(value: Any) -> str | None:
    if isinstance(value, str | SchemaFile):
        return "<file>"
    return "<columns>" if isinstance(value, Mapping) else None


def _schema_file(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    folder = (info.context or {}).get("folder", ".")
    return {"path": normalise_table_address(value if value[:1] in "/~" else f"{folder}/{value}")}


ColumnType = Annotated[str, AfterValidator(check_type)]
Schema = Annotated[
    Annotated[dict[Column, ColumnType], Field(min_length=1), Tag("<columns>")]
    | Annotated[
        SchemaFile,
        BeforeValidator(_schema_file),
        WithJsonSchema({"type": "string", "minLength": 1}),
        Tag("<file>"),
    ],
    choose_shape(_schema_shape, "schema is a mapping of columns to types, or the path of a file"),
]


class EventTime(Model):
    """Which column says when an event happened, and what to do with late ones.

    Attributes:
        lateness_s: How far the watermark stays behind the greatest event time.
        idle_timeout_s: After this long without records a partition stops holding it back.
        max_ahead_s: An event time further ahead of the broker's timestamp does not move it.
    """

    column: Column
    lateness_s: DurationOrZeroS = Field(default=600.0, alias="lateness")
    late: Literal["keep", "flag", "dead_letter"] = "keep"
    idle_timeout_s: DurationS = Field(default=60.0, alias="idle_timeout")
    max_ahead_s: DurationOrZeroS = Field(default=3600.0, alias="max_ahead")


def _check_partition(text: str) -> str:
    parse_partition(text)
    return text.strip()


def _check_template(text: str) -> str:
    found = [
        Finding((), f"{{{name}}} is not known here", "only {topic} is filled in")
        for name in _PLACEHOLDER.findall(text)
        if name != "topic"
    ]
    if found or re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise Invalid(f"{text!r} is not a template", "only {topic} is filled in", found)
    return text


def _check_table(text: str) -> str:
    check_name(_check_template(text).replace("{topic}", "topic"), "a table's name")
    return text


def _check_path(text: str) -> str:
    return normalise_table_address(_check_template(text))


class BronzeTable(Model):
    """Topics that become one table, or one table a topic (``table: '{topic}'``).

    Attributes:
        table: The table's name when it is not the key; ``{topic}`` makes one table a topic.
        path: The table's address when it is not ``<lake>/bronze/<name>``.
        schema_: Columns and types, a file, or None: inferred once, then kept in the table.
        commit_interval_s: Longest wait of a record before it is handed over, and the shortest time
            between two commits (10 s on object stores).
        idle_commit_interval_s: Shortest time between two commits that move offsets only.
        target_file_bytes: Size of a data file that ingestion aims at, at most.
        max_batch_bytes: Bound of one batch, decompressed.
        keep_value: Whether ``_value`` keeps the exact bytes.
        retain_s: Rows older than this leave (``raylake retain``); None: they stay.
        retain_by: The column of times that says how old a row is.
    """

    topics: Topics
    table: Annotated[str, AfterValidator(_check_table)] | None = None
    path: Annotated[str, AfterValidator(_check_path)] | None = None
    start: Start = Earliest()
    format: Literal["json", "raw", "avro", "protobuf", "csv", "debezium"] = "json"
    schema_: Schema | None = Field(default=None, alias="schema")
    unknown_fields: Literal["evolve", "rescue", "reject"] = "evolve"
    max_columns: Count = 1000
    event_time: EventTime | None = None
    partition_by: tuple[Annotated[str, AfterValidator(_check_partition)], ...] = ()
    commit_interval_s: DurationS = Field(default=5.0, alias="commit_interval")
    idle_commit_interval_s: DurationS = Field(default=60.0, alias="idle_commit_interval")
    target_file_bytes: SizeBytes = Field(default=128 * 2**20, alias="target_file_size")
    max_batch_bytes: SizeBytes = 64 * 2**20
    keep_value: Truth = False
    on_data_loss: Literal["stop", "record"] = "stop"
    on_topic_recreated: Literal["stop", "start"] = "stop"
    on_failure: Literal["continue", "abort"] = "continue"
    retain_s: DurationS | None = Field(default=None, alias="retain")
    retain_by: Column = "_timestamp"

    @model_validator(mode="before")
    @classmethod
    def _name_the_topic(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        start, topics = data.get("start"), data.get("topics")
        offsets = start.get("offsets") if isinstance(start, Mapping) else None
        if not isinstance(offsets, Mapping) or any(
            isinstance(v, Mapping) for v in offsets.values()
        ):
            return data
        if not isinstance(topics, list | tuple) or len(topics) != 1 or not offsets:
            return data
        return {**data, "start": {**start, "offsets": {topics[0]: dict(offsets)}}}  # type: ignore[dict-item]

    @property
    def fans_out(self) -> bool:
        """Whether each topic has a table of its own."""
        return self.table is not None and "{topic}" in self.table

    @property
    def partition_fields(self) -> tuple[PartitionField, ...]:
        """``partition_by``, parsed."""
        return tuple(parse_partition(text) for text in self.partition_by)

    def target_name(self, key: str, topic: str | None = None) -> str:
        """The table's name within the layer.

        Args:
            key: The key of this table in the pipeline file.
            topic: The topic, needed when there is one table a topic.

        Raises:
            Invalid: The topic is missing, or makes a name that is not allowed.
        """
        if self.table is None:
            return key
        if not self.fans_out:
            return self.table
        if topic is None:
            raise Invalid("there is one table a topic, and no topic was given")
        return check_name(self.table.replace("{topic}", topic), "a table's name")
