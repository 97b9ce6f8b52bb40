"""Codecs: records from Kafka into Arrow rows and dead letters."""

from __future__ import annotations

from raylake.codecs.infer import infer_schema
from raylake.codecs.json_codec import JsonDecoder
from raylake.codecs.port import (
    RECORD_SCHEMA,
    RESCUED,
    TOMBSTONE,
    DeadRecord,
    Decoded,
    Decoder,
    DecoderSpec,
)
from raylake.codecs.raw import RawDecoder
from raylake.codecs.types import merge_schema, parse_schema, parse_type, schema_text, type_text
from raylake.errors import ConfigError

__all__ = [
    "RECORD_SCHEMA",
    "RESCUED",
    "TOMBSTONE",
    "DeadRecord",
    "Decoded",
    "Decoder",
    "DecoderSpec",
    "infer_schema",
    "make_decoder",
    "merge_schema",
    "parse_schema",
    "parse_type",
    "schema_text",
    "type_text",
]


def make_decoder(spec: DecoderSpec) -> Decoder:
    """The decoder of a format.

    Raises:
        ConfigError: There is no such format yet, or its schema cannot be used.
    """
    if spec.format == "json":
        return JsonDecoder(spec)
    if spec.format == "raw":
        return RawDecoder(spec)
    raise ConfigError(f"format {spec.format!r} is not there yet", hint="use json or raw")
