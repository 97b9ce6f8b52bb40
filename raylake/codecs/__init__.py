"""Codecs: records from Kafka into Arrow rows and dead letters."""

from __future__ import annotations

from raylake.codecs.columnar import ColumnarJsonDecoder
from raylake.codecs.columns import written_with_escapes
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
    "ColumnarJsonDecoder",
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
    "written_with_escapes",
]


def make_decoder(spec: DecoderSpec, *, columnar: bool = True) -> Decoder:
    """The decoder of a format.

    Args:
        spec: What to decode, and into which columns.
        columnar: Whether to load the compiled kernels, which takes about a second; for a few
            records it is not worth it. The results are the same.

    Raises:
        ConfigError: There is no such format yet, or its schema cannot be used.
    """
    if spec.format == "json":
        return ColumnarJsonDecoder(spec) if columnar and not spec.careful else JsonDecoder(spec)
    if spec.format == "raw":
        return RawDecoder(spec)
    raise ConfigError(f"format {spec.format!r} is not there yet", hint="use json or raw")
