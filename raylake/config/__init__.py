"""The pipeline file: its model, its loader, and where its tables lie."""

from raylake.config.addresses import (
    dead_letter_path,
    normalise_table_address,
    status_path,
    table_path,
)
from raylake.config.bronze import (
    BronzeTable,
    Earliest,
    EventTime,
    FromGroup,
    FromOffsets,
    FromTimestamp,
    Latest,
    SchemaFile,
    TopicPattern,
)
from raylake.config.kafka import Kafka, Security, parse_bootstrap
from raylake.config.loader import Loaded, load, load_bytes, values_of
from raylake.config.models import BreakerConfig, DeadLetters, Ingest, Pipeline, Retry
from raylake.config.scaled import Scaled
from raylake.config.schema import json_schema
from raylake.config.secrets import SecretRef

__all__ = [
    "BreakerConfig",
    "BronzeTable",
    "DeadLetters",
    "Earliest",
    "EventTime",
    "FromGroup",
    "FromOffsets",
    "FromTimestamp",
    "Ingest",
    "Kafka",
    "Latest",
    "Loaded",
    "Pipeline",
    "Retry",
    "Scaled",
    "SchemaFile",
    "SecretRef",
    "Security",
    "TopicPattern",
    "dead_letter_path",
    "json_schema",
    "load",
    "load_bytes",
    "normalise_table_address",
    "parse_bootstrap",
    "status_path",
    "table_path",
    "values_of",
]
