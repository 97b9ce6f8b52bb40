"""Codecs: records from Kafka into Arrow rows and dead letters."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raylake.codecs.columnar import ColumnarJsonDecoder
    from raylake.codecs.columns import written_with_escapes
    from raylake.codecs.infer import infer_schema
    from raylake.codecs.json_codec import JsonDecoder
    from raylake.codecs.making import make_decoder
    from raylake.codecs.port import (
        RECORD_SCHEMA,
        RESCUED,
        TOMBSTONE,
        DeadRecord,
        Decoded,
        Decoder,
        DecoderSpec,
    )
    from raylake.codecs.types import (
        merge_schema,
        parse_schema,
        parse_type,
        schema_text,
        type_text,
    )

__all__ = [
    "RECORD_SCHEMA",
    "RESCUED",
    "TOMBSTONE",
    "ColumnarJsonDecoder",
    "DeadRecord",
    "Decoded",
    "Decoder",
    "DecoderSpec",
    "JsonDecoder",
    "infer_schema",
    "make_decoder",
    "merge_schema",
    "parse_schema",
    "parse_type",
    "schema_text",
    "type_text",
    "written_with_escapes",
]

_PORT = (
    *("RECORD_SCHEMA", "RESCUED", "TOMBSTONE"),
    *("DeadRecord", "Decoded", "Decoder", "DecoderSpec"),
)
_TYPES = ("merge_schema", "parse_schema", "parse_type", "schema_text", "type_text")
_MODULES = {
    "ColumnarJsonDecoder": "columnar",
    "JsonDecoder": "json_codec",
    "infer_schema": "infer",
    "make_decoder": "making",
    "written_with_escapes": "columns",
    **dict.fromkeys(_PORT, "port"),
    **dict.fromkeys(_TYPES, "types"),
}


def __getattr__(name: str) -> Any:
    # Whoever reads a pipeline file asks for types alone; only consumers decode.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
