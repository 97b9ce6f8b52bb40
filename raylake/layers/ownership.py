"""Whose a derived table is, and by which definition it was made: two properties of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raylake.layers.errors import DefinitionChanged, OwnedByAnother

OWNER: Final = "derived.pipeline"
"""The table property that names the pipeline which writes the table."""
DEFINITION: Final = "derived.definition"
"""The table property with the digest of the definition that the table was made by."""


def refuse_others(table: tuple[str, str], pipeline: str, configuration: Mapping[str, str]) -> None:
    """Refuse a table of another pipeline.

    Args:
        table: Name (``layer.name``) and address.
        pipeline: Who asks.
        configuration: The table's properties.

    Raises:
        OwnedByAnother: It is.
    """
    owner = configuration.get(OWNER)
    if owner != pipeline:
        whose = f"belongs to pipeline {owner!r}" if owner else "was not made by a pipeline"
        raise OwnedByAnother(
            f"{table[0]}: the table at {table[1]} {whose}, this is {pipeline!r}",
            hint="one pipeline of a lake writes a table, any may read it: give it another "
            "name or `path:`",
            owner=owner or "",
        )


def refuse_changed(table: tuple[str, str], digest: str, configuration: Mapping[str, str]) -> None:
    """Refuse a table that another definition has made.

    Args:
        table: Name (``layer.name``) and address.
        digest: Of the definition.
        configuration: The table's properties.

    Raises:
        DefinitionChanged: It was.
    """
    if configuration.get(DEFINITION) != digest:
        raise DefinitionChanged(
            f"{table[0]}: the table at {table[1]} was made by another definition than the "
            "file has now",
            hint=f"`raylake transform run FILE --full-refresh {table[0]}` makes it anew, "
            "beside its readers; or take the change back",
        )
