"""The ``spark`` section: the executors that table operations get on the Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from raylake.config.base import Model
from raylake.config.findings import Invalid
from raylake.config.units import Count, DurationS, SizeBytes

LEAST_MEMORY_BYTES: Final = 512 * 2**20
"""Spark refuses executors with a smaller heap than about 450 MiB."""
OURS: Final = (
    "spark.app.",
    "spark.driver.",
    "spark.dynamicAllocation.",
    "spark.executor.",
    "spark.jars",
    "spark.master",
    "spark.ray.",
    "spark.sql.catalog.spark_catalog",
    "spark.sql.extensions",
    "spark.databricks.delta.write.txn",
)
"""Settings that RayLake makes itself."""


class Executors(Model):
    """How many executors there are.

    Attributes:
        min: At least so many, from the start on.
        max: At most so many; more than ``min``: the number follows the work.
    """

    min: Count = 1
    max: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            low = data.get("min")
            return {**data, "max": low} if low is not None and "max" not in data else data
        return {"min": data, "max": data}

    @model_validator(mode="after")
    def _order(self) -> Executors:
        if self.max < self.min:
            raise Invalid("max is less than min")
        return self


def _heap(value: int) -> int:
    if value < LEAST_MEMORY_BYTES:
        raise Invalid("Spark does not start with less than 512MiB", "write 1GiB")
    return value


def _settings(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    for name in value:
        text = str(name)
        if text.startswith("spark.hadoop."):
            raise Invalid(
                f"{text}: how a store is reached is not Spark's to know for all tables",
                "see the section `stores`",
            )
        if not text.startswith("spark."):
            raise Invalid(f"{text} is not a setting of Spark", "its settings begin with spark.")
        if text.startswith(OURS):
            raise Invalid(f"{text} is set by RayLake", "executors, cores and memory have keys")
    return {str(name): str(one) for name, one in value.items()}


Heap = Annotated[SizeBytes, AfterValidator(_heap)]


class Spark(Model):
    """Spark for table operations: one session on the Ray cluster, started when it is needed.

    Attributes:
        executors: A number, or ``{min: 1, max: 4}``.
        cores: Of each executor: tasks at once, and CPUs that Ray sets aside.
        memory_bytes: Heap of each executor, which Ray sets aside, too.
        driver_memory_bytes: Heap of the driver.
        idle_timeout_s: So long after its last operation the session is given back.
        start_timeout_s: A session that is not up by then is given up.
        settings: Further settings of Spark, by their own names; no secrets.
    """

    executors: Annotated[
        Executors,
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "min": {"type": "integer", "minimum": 1},
                            "max": {"type": "integer", "minimum": 1},
                        },
                    },
                ]
            }
        ),
    ] = Executors()
    cores: Count = 1
    memory_bytes: Heap = Field(default=2**30, alias="memory")
    driver_memory_bytes: Heap = Field(default=2**30, alias="driver_memory")
    idle_timeout_s: DurationS = Field(default=300.0, alias="idle_timeout")
    start_timeout_s: DurationS = Field(default=180.0, alias="start_timeout")
    settings: Annotated[dict[str, str], BeforeValidator(_settings)] = Field(default_factory=dict)
