"""A first pipeline file for topics that are there, with the columns that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from raylake.client.preview import values_of
from raylake.clock import Clock
from raylake.codecs import infer_schema, schema_text
from raylake.config import load_bytes
from raylake.config.addresses import MAX_NAME
from raylake.ingest.discovery import sample_by_source
from raylake.ingest.plan import RunPlan, table_plans
from raylake.kafka.client import Cluster

LOOKED_AT = 1000
SECURITY = (
    "  # security: {protocol: SASL_SSL, mechanism: SCRAM-SHA-512, username: env:KAFKA_USER, "
    "password: env:KAFKA_PASSWORD}"
)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a topic holds.

    Attributes:
        topic: The topic.
        records: Records sampled.
        columns: Column to type; empty when no record was a JSON object.
        moments: Text columns of which every sampled value is an ISO 8601 time.
    """

    topic: str
    records: int
    columns: dict[str, str]
    moments: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """``json``, or ``raw`` when there were records and none was a JSON object."""
        return "raw" if self.records and not self.columns else "json"


def draft(
    bootstrap: str,
    topics: Sequence[str],
    pipeline: str,
    clock: Clock,
    security: Mapping[str, Any] | None = None,
) -> str:
    """The text of a pipeline file, one table a topic; it loads again.

    Args:
        bootstrap: The cluster.
        topics: The topics.
        pipeline: The pipeline's name.
        clock: Time.
        security: ``kafka.security`` as a pipeline file has it; secrets are references.

    Raises:
        UnknownTopic: A topic does not exist.
        DependencyUnreachable: No broker answers.
        ConfigError: A topic's or the pipeline's name cannot be used, or the security is wrong.
        AccessDenied: The cluster does not let us in, or not read a topic.
    """
    names = table_names(topics)
    plain = {
        "pipeline": pipeline,
        "lake": "./lake",
        "kafka": {"bootstrap": bootstrap, **({"security": dict(security)} if security else {})},
        "bronze": {names[topic]: {"topics": [topic]} for topic in topics},
    }
    loaded = load_bytes(json.dumps(plain).encode(), path="pipeline.json", environ={})
    run = RunPlan(loaded.config, loaded.sha256, "init", "init")
    kafka = loaded.config.kafka
    with Cluster(bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        samples = []
        for plan, topic in zip(table_plans(loaded.config, cluster), topics, strict=True):
            found = [batch for _, batch in sample_by_source(run, plan, cluster, clock, 1000)]
            samples.append(sampled(topic, found))
    text = render(pipeline, bootstrap, samples, security)
    load_bytes(text.encode(), path=f"{pipeline}.yaml", environ={})
    return text


def sampled(topic: str, batches: Sequence[pa.RecordBatch]) -> Sampled:
    """What some records say of their topic."""
    schema = infer_schema(values_of(batches))
    columns = schema_text(schema)
    texts = [name for name, kind in columns.items() if kind == "string"]
    objects = [_object(value) for value in islice(values_of(batches), LOOKED_AT)]
    moments = tuple(name for name in texts if _all_moments([one.get(name) for one in objects]))
    return Sampled(topic, sum(batch.num_rows for batch in batches), columns, moments)


def _object(value: bytes | None) -> dict[str, object]:
    try:
        found = json.loads(value or b"null")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII
)


def _all_moments(values: Sequence[object]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(v, str) and _MOMENT.fullmatch(v) for v in there)


def table_names(topics: Sequence[str]) -> dict[str, str]:
    """A table's name for each topic: the topic's with what is not allowed replaced, unique."""
    names: dict[str, str] = {}
    for topic in topics:
        base = re.sub(r"[^A-Za-z0-9_]", "_", topic)[: MAX_NAME - 4] or "topic"
        name, number = base, 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[topic] = name
    return names


def render(
    pipeline: str,
    bootstrap: str,
    samples: Sequence[Sampled],
    security: Mapping[str, Any] | None = None,
) -> str:
    """The file, commented."""
    lines = [
        f"# {pipeline}.yaml: from Kafka to Delta tables; check it with `raylake validate`",
        f"pipeline: {_scalar(pipeline)}",
        "lake: ${LAKE:-./lake}                 # tables lie in <lake>/bronze/<name>",
        "kafka:",
        f"  bootstrap: {_scalar(bootstrap)}",
        f"  security: {json.dumps(dict(security))}" if security else SECURITY,
        "",
        "bronze:",
    ]
    names = table_names([one.topic for one in samples])
    for one in samples:
        lines += _table(names[one.topic], one)
    return "\n".join(lines) + "\n"


def _table(name: str, one: Sampled) -> list[str]:
    lines = [
        f"  {_scalar(name)}:",
        f"    topics: [{_scalar(one.topic)}]",
        "    start: earliest                  # latest | {timestamp: …} | {offsets: …} | …",
        f"    format: {one.format}",
    ]
    if one.format == "raw":
        lines[-1] += "                      # no sampled record is a JSON object"
    elif not one.columns:
        lines.append("    # schema: the topic is empty; it is inferred from the first records")
    else:
        lines.append(f"    schema:                          # from {one.records:,} records")
        for column, kind in one.columns.items():
            typed = "timestamp" if column in one.moments else kind
            lines.append(f"      {_scalar(column)}: {_scalar(typed)}")
    if one.format == "json":
        lines.append("    unknown_fields: evolve           # rescue | reject")
    if one.moments:
        column = _scalar(one.moments[0])
        lines.append(f"    # event_time: {{column: {column}, lateness: 10m, late: flag}}")
    lines.append("    # partition_by: [date(_timestamp)]")
    return lines


def _scalar(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", text)
    reserved = text.lower() in {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
    return text if plain and not reserved else json.dumps(text)
