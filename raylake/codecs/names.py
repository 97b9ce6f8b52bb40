"""Which names of fields can be columns.

A field whose name cannot be a column never becomes one: with ``evolve`` and ``rescue`` its value
stays, exactly, in ``_rescued_data``; with ``reject`` the record is a dead letter.

==============================  ==================================================================
name                            why it is no column
==============================  ==================================================================
empty                           no engine can name it
begins with ``_``               top level only: RayLake's own columns (``_topic``, ``_offset`` …)
`` ,;{}()``, tab, newline, =    Delta refuses them without column mapping
``.`` or a backtick             read as a path by Spark and others
control characters              no engine can show them
more than 255 characters        refused by catalogs and file systems
differs in case only            from a column that exists: Spark and others compare without case
==============================  ==================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_NAME_CHARACTERS = 255
_REFUSED = re.compile(r"[ ,;{}()\n\t=.`\x00-\x1f\x7f\u0080-\u009f]")


def refusal(name: str, *, top_level: bool, taken: Mapping[str, str]) -> str:
    """Why a name can be no column; empty when it can.

    Args:
        name: The field's name.
        top_level: Whether it would be a column rather than a field of a struct.
        taken: The names that exist beside it, by their lower-case form.
    """
    if not name:
        return "is empty"
    if top_level and name.startswith("_"):
        return "begins with _, which is for RayLake's own columns"
    found = _REFUSED.search(name)
    if found:
        return f"contains {found.group()!r}"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"is longer than {MAX_NAME_CHARACTERS} characters"
    other = taken.get(name.lower())
    if other == name:
        return "is there twice"
    if other is not None:
        return f"differs from {other!r} only in case"
    return ""
