"""How a key of the pipeline file names a table."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from raylake.config.findings import Invalid

_LAYER_TABLE: Final = re.compile(r"(bronze|silver|gold)\.[A-Za-z0-9_][A-Za-z0-9_.-]*")


def _check_reference(text: str) -> str:
    if not _LAYER_TABLE.fullmatch(text):
        raise Invalid(f"{text!r} does not name a table", "write bronze.NAME, silver.NAME, …")
    return text


TableRef = Annotated[str, AfterValidator(_check_reference)]
"""``layer.name`` of a table."""
