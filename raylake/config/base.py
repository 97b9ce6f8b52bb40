"""What all models of the pipeline file share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    model_validator,
)

from raylake.config.addresses import check_name, normalise_table_address
from raylake.config.findings import Invalid

_LAYER_TABLE: Final = re.compile(r"(bronze|silver|gold)\.[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Model(BaseModel):
    """Frozen; unknown keys are refused; a key without a value (``key:``) counts as left out.

    In Python a field is given by its attribute's name (with the unit) or by its key in the file.
    The loader accepts only the latter.
    """

    model_config = ConfigDict(
        frozen=True,
        # Processes that are handed a configuration never validate one: a third of the import.
        defer_build=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = set(keys_of(cls)) | set(cls.model_fields)
        return {k: v for k, v in data.items() if v is not None or k not in known}


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """The keys in the file of a model's fields, with the attribute that each one fills."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def choose(key: str, default: str | None = None) -> Discriminator:
    """Tells the members of a union apart by the value of ``key``; tags are ``<value>``."""

    def pick(value: Any) -> str | None:
        given = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        given = default if given is None else given
        return None if given is None else f"<{given}>"

    pick.__name__ = key
    return Discriminator(pick)


def choose_shape(shape: Callable[[Any], str | None], wanted: str) -> Discriminator:
    """Tells the members of a union apart by their shape; ``wanted`` is the message for others."""
    return Discriminator(shape, custom_error_type="shape", custom_error_message=wanted)


def _check_address(text: str) -> str:
    # {topic} is filled in later; it has no say in how the rest is spelled.
    return normalise_table_address(text)


def _check_table_name(text: str) -> str:
    return check_name(text, "a table's name")


def _check_pipeline_name(text: str) -> str:
    if text.endswith((".transform", ".maintain")):
        raise Invalid(f"{text!r} would share files with another pipeline", "end it otherwise")
    return check_name(text, "a pipeline's name")


def _check_column(text: str) -> str:
    if not text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise Invalid("a column's name must not be empty, and is valid Unicode")
    return text


def _check_reference(text: str) -> str:
    if not _LAYER_TABLE.fullmatch(text):
        raise Invalid(f"{text!r} does not name a table", "write bronze.NAME, silver.NAME, …")
    return text


Address = Annotated[str, AfterValidator(_check_address)]
"""A path or URL, normalised (absolute when it is local)."""
TableName = Annotated[str, AfterValidator(_check_table_name)]
"""The name of a table within its layer."""
PipelineName = Annotated[str, AfterValidator(_check_pipeline_name)]
"""The name of a pipeline."""
Column = Annotated[str, AfterValidator(_check_column)]
"""The name of a column."""
Columns = Annotated[tuple[Column, ...], Field(min_length=1)]
"""Names of columns, at least one."""
TableRef = Annotated[str, AfterValidator(_check_reference)]
"""``layer.name`` of a table."""
