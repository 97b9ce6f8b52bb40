"""The JSON Schema of the pipeline file, for editors; shipped as ``pipeline.schema.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from raylake.config.models import Pipeline
from raylake.config.units import format_duration, format_ratio, format_size

SHIPPED: Final = Path(__file__).with_name("pipeline.schema.json")
_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a pipeline file; a typed scalar may also hold ``${VAR}``."""
    schema: dict[str, Any] = _with_variables(Pipeline.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://raylake.invalid/pipeline.schema.json",
        **schema,
        "title": "RayLake pipeline, format 1",
    }


def _with_variables(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {
        key: {name: _with_variables(item) for name, item in value.items()}
        if key in ("properties", "$defs")
        else value
        if key in ("default", "examples", "enum", "const")
        else _with_variables(value)
        for key, value in node.items()
        if key not in ("title", "discriminator")
    }
    if "default" in out:
        out["default"] = _as_written(out["default"], out.get("examples", ()))
        if out["default"] is None or isinstance(out["default"], dict):
            del out["default"]
    typed = out.get("type") in ("integer", "number", "boolean") or "enum" in out
    if not typed:
        return out
    outer = {key: out.pop(key) for key in ("default", "description") if key in out}
    return {**outer, "anyOf": [out, dict(_VARIABLE)]}


def _as_written(value: Any, examples: Any) -> Any:
    """A default as the file would have it: with its unit."""
    for example, write in (("5s", format_duration), ("64MiB", format_size), ("20%", format_ratio)):
        if example in examples and isinstance(value, int | float):
            return write(value)  # type: ignore[arg-type]
    return value


def schema_text() -> str:
    """The text of the shipped file."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
