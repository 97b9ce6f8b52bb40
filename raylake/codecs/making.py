"""The decoder of a format."""

from __future__ import annotations

from raylake.codecs.columnar import ColumnarJsonDecoder
from raylake.codecs.json_codec import JsonDecoder
from raylake.codecs.port import Decoder, DecoderSpec
from raylake.codecs.raw import RawDecoder
from raylake.errors import ConfigError


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
