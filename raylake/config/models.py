"""The whole model of a pipeline file (DESIGN §10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from raylake.config.addresses import is_local, normalise_table_address
from raylake.config.base import Address, Model, PipelineName, TableName
from raylake.config.bronze import BronzeTable
from raylake.config.checks import cross_check
from raylake.config.derived import GoldTable, SilverTable
from raylake.config.findings import Invalid
from raylake.config.kafka import Kafka
from raylake.config.listen import ListenAddress
from raylake.config.maintenance import Maintenance
from raylake.config.observing import MetricsOut, Tracing
from raylake.config.scaled import Consumers
from raylake.config.spark import Spark
from raylake.config.stores import StoreAccess, check_stores
from raylake.config.units import Count, DurationOrZeroS, DurationS, Ratio, SizeBytes

FORMAT: Final = 1
DAY_S: Final = 86_400.0
DependencyName = Literal["broker", "store", "dead_letters", "conflicts"]
_CONFLICTS: Final = {"initial_s": 0.02, "max_s": 2.0}


def _check_format(value: Any) -> Any:
    text = str(value)
    if not isinstance(value, bool) and text.isdigit() and len(text) < 10 and int(text) > FORMAT:
        raise Invalid(
            f"format {text} is newer than this version of RayLake reads (format {FORMAT})",
            "upgrade RayLake, or write the file in the older format",
        )
    if isinstance(value, bool) or text != str(FORMAT):
        raise Invalid(f"{value!r} is not a format number", f"write format: {FORMAT}")
    return FORMAT


class Ingest(Model):
    """How the pipeline's ingestion runs.

    Attributes:
        consumers: Number of consumer actors, ``auto`` (one a CPU, at most four), or ``{min: …,
            max: …}``: as many as the lag asks for.
        trigger: ``continuous``, or ``available_now``: stop at the ends seen at the start.
        buffer_bytes: Per consumer: what it holds decompressed, and files that no commit has yet;
            above it the consumer pauses.
        drain_timeout_s: Budget from the signal to stop until the exit.
        durability: ``sync`` (files and log entries are synced) or ``none`` (tests, benchmarks).
        takeover_after_s: A foreign owner younger than this is not taken over (DESIGN I11).
        checkpoint_interval_commits: Commits between two checkpoints of a table's log.
        log_retention_s: Age at which log entries may go; 1 day locally, 7 days in stores.
        http: Where the supervisor serves ``/healthz``, ``/readyz`` and ``/metrics``: ``host:port``,
            port 0 for a free one (``status`` shows it), or ``off``. There is no authentication.
    """

    consumers: Consumers = "auto"
    trigger: Literal["continuous", "available_now"] = "continuous"
    buffer_bytes: SizeBytes = Field(default=256 * 2**20, alias="buffer")
    drain_timeout_s: DurationS = Field(default=60.0, alias="drain_timeout")
    durability: Literal["sync", "none"] = "sync"
    takeover_after_s: DurationOrZeroS = Field(default=30.0, alias="takeover_after")
    checkpoint_interval_commits: Count = Field(default=100, alias="checkpoint_interval")
    log_retention_s: DurationS = Field(default=DAY_S, alias="log_retention")
    http: ListenAddress = "127.0.0.1:0"


class KafkaLetters(Model):
    """A topic that gets dead letters too, on the pipeline's cluster.

    Attributes:
        topic: The topic; none that the pipeline reads.
    """

    topic: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]


class FileLetters(Model):
    """A folder or an object store that gets dead letters too, as Parquet files.

    Attributes:
        path: Its address.
    """

    path: Address


class LetterTargets(Model):
    """What gets dead letters besides their table, at least once.

    Attributes:
        kafka: A topic.
        files: Files by date, hour, pipeline and stage.
    """

    kafka: KafkaLetters | None = None
    files: FileLetters | None = None


class DeadLetters(Model):
    """Records that cannot become rows.

    Attributes:
        path: The table's address when it is not ``<lake>/dead_letters/<pipeline>``.
        also: What gets them besides that table.
        stop_above: Part of the window, 0 to 1, above which ingestion of the table stops.
        window_records: Records that the part is taken of.
    """

    path: Address | None = None
    also: LetterTargets = LetterTargets()
    stop_above: Ratio = 0.2
    window_records: Count = Field(default=10_000, alias="window")


class RetryRule(Model):
    """How often and how far apart a failed operation is tried again.

    Attributes:
        strategy: ``exponential`` (full jitter), ``fixed`` or ``none``.
        attempts: In a row, the first included. Then whoever waits for the answer gets the error;
            where files wait for their store instead, its breaker opens.
        initial_s: Wait before the second attempt; the upper end, doubled each time, when
            exponential.
        max_s: The longest wait.
    """

    strategy: Literal["exponential", "fixed", "none"] = "exponential"
    attempts: Count = 10
    initial_s: DurationS = Field(default=0.2, alias="initial")
    max_s: DurationS = Field(default=30.0, alias="max")

    @field_validator("max_s")
    @classmethod
    def _order(cls, value: float, info: Any) -> float:
        if value < info.data.get("initial_s", value):
            raise Invalid("max is shorter than initial")
        return value


class RetryOverride(Model):
    """What one dependency has its own way; what is left out is taken from ``retry``."""

    strategy: Literal["exponential", "fixed", "none"] | None = None
    attempts: Count | None = None
    initial_s: DurationS | None = Field(default=None, alias="initial")
    max_s: DurationS | None = Field(default=None, alias="max")


class Retry(RetryRule):
    """How often and how far apart failed operations are tried again, for each dependency.

    Attributes:
        broker: Questions to Kafka and fetches.
        store: Data files and commits of the tables.
        dead_letters: Files and commits of the dead-letter table.
        conflicts: A commit that another writer's came before; 20 ms and at most 2 s apart unless
            given here.
    """

    broker: RetryOverride | None = None
    store: RetryOverride | None = None
    dead_letters: RetryOverride | None = None
    conflicts: RetryOverride | None = None

    def of(self, dependency: DependencyName) -> RetryRule:
        """The rule of one dependency."""
        return RetryRule(**_merged(self.__dict__, dependency, getattr(self, dependency)))

    @field_validator("broker", "store", "dead_letters", "conflicts")
    @classmethod
    def _fits(cls, value: RetryOverride | None, info: Any) -> RetryOverride | None:
        rule = _merged(info.data, info.field_name, value)
        if rule.get("max_s", 0.0) < rule.get("initial_s", 0.0):
            raise Invalid(
                f"initial is {rule['initial_s']:g} s here and max {rule['max_s']:g} s",
                "give both here, max the longer one",
            )
        return value


def _merged(
    default: Mapping[str, Any], dependency: str, own: RetryOverride | None
) -> dict[str, Any]:
    found = {key: default[key] for key in RetryRule.model_fields if key in default}
    found |= _CONFLICTS if dependency == "conflicts" else {}
    return found | ({} if own is None else own.model_dump(exclude_none=True))


class BreakerConfig(Model):
    """When a dependency's breaker opens, and how it closes again.

    Attributes:
        failure_rate: Part of the calls, 0 to 1, that opens it.
        calls: Fewest calls within the window before it may open.
        window_s: Span over which calls are counted.
        open_s: Time until it lets probes through.
        half_open_calls: Probes that it lets through at most. It closes when they all succeeded, or
            3 s after the first one did when there is too little to do for more.
    """

    failure_rate: Ratio = 0.5
    calls: Count = 20
    window_s: DurationS = Field(default=30.0, alias="window")
    open_s: DurationS = Field(default=30.0, alias="open")
    half_open_calls: Count = 3


class Pipeline(Model):
    """A pipeline file, whole: frozen, checked, with every default filled in."""

    format: Annotated[Literal[1], BeforeValidator(_check_format)] = 1
    pipeline: PipelineName
    lake: Address
    stores: Annotated[dict[str, StoreAccess], AfterValidator(check_stores)] = Field(
        default_factory=dict
    )
    kafka: Kafka
    bronze: dict[TableName, BronzeTable] = Field(min_length=1)
    silver: dict[TableName, SilverTable] = Field(default_factory=dict)
    gold: dict[TableName, GoldTable] = Field(default_factory=dict)
    maintenance: Maintenance = Maintenance()
    ingest: Ingest = Ingest()
    dead_letters: DeadLetters = DeadLetters()
    retry: Retry = Retry()
    breaker: BreakerConfig = BreakerConfig()
    metrics: MetricsOut = MetricsOut()
    tracing: Tracing = Tracing()
    engine: Literal["auto", "delta-rs", "spark"] = "auto"
    spark: Spark = Spark()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_stores(cls, data: Any) -> Any:
        return with_store_defaults(data)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        found = cross_check(self.model_dump(mode="json", by_alias=True))
        if found:
            raise Invalid("", findings=found)
        return self

    def not_yet(self) -> list[str]:
        """The sections that parse and do nothing in this version, each with a sentence."""
        return []


def with_store_defaults(data: Any) -> Any:
    """The data with the defaults that depend on where the lake is.

    On object stores the commit interval is 10 s and the retention of logs 7 days.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("lake"), str):
        return data
    try:
        if is_local(normalise_table_address(data["lake"])):
            return data
    except Invalid:
        return data
    filled = dict(data)
    ingest, bronze = data.get("ingest", {}), data.get("bronze")
    if isinstance(ingest, Mapping) and not {"log_retention", "log_retention_s"} & set(ingest):
        filled["ingest"] = {**ingest, "log_retention": "7d"}
    if isinstance(bronze, Mapping):
        filled["bronze"] = {
            name: {**table, "commit_interval": "10s"}
            if isinstance(table, Mapping)
            and not {"commit_interval", "commit_interval_s"} & set(table)
            else table
            for name, table in bronze.items()
        }
    return filled
