"""The JSON Schema of the pipeline file, for editors; shipped as ``pipeline.schema.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from raylake.config.models import Pipeline

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
    typed = out.get("type") in ("integer", "number", "boolean") or "enum" in out
    if not typed:
        return out
    outer = {key: out.pop(key) for key in ("default", "description") if key in out}
    return {**outer, "anyOf": [out, dict(_VARIABLE)]}


def main() -> None:
    """Writes the shipped file anew: ``python -m raylake.config.schema``."""
    text = json.dumps(json_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    SHIPPED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
