"""The last state of each key (SCD type 1): an upsert that no late change undoes."""

from __future__ import annotations

import pyarrow as pa

from raylake.tables.expressions import quoted
from raylake.tables.requests import Upsert


def scd1(
    rows: pa.Table,
    keys: tuple[str, ...],
    sequence_by: tuple[str, ...],
    delete_when: str | None = None,
) -> Upsert:
    """The upsert that keeps the last change of each key, whatever order changes come in.

    The table must have the columns of ``sequence_by``: a change of a key counts when it is greater
    by them than the key's row, so they must tell changes of a key apart. A deleted key leaves
    nothing: a change from before the delete that comes after it brings the key back. Where that can
    be, use :class:`~raylake.tables.requests.Scd2`, which remembers deletes.

    Args:
        rows: The changes.
        keys: What a thing is known by.
        sequence_by: What orders the changes of a key; no value is the least.
        delete_when: A condition on ``source``: the key's row is taken away.
    """
    newer = is_greater(sequence_by)
    if delete_when is None:
        return Upsert(rows, keys, update_when=newer, sequence_by=sequence_by)
    return Upsert(
        rows,
        keys,
        update_when=newer,
        delete_when=f"({delete_when}) AND ({newer})",
        insert_when=f"NOT COALESCE({delete_when}, FALSE)",
        sequence_by=sequence_by,
    )


def is_greater(columns: tuple[str, ...], *, or_equal: bool = False) -> str:
    """The condition that the source is greater than the target, column by column.

    No value is the least.
    """
    text = "TRUE" if or_equal else ""
    for name in reversed(columns):
        source, target = quoted(name, "source"), quoted(name, "target")
        more = f"({source} > {target} OR ({target} IS NULL AND {source} IS NOT NULL))"
        same = f"({source} = {target} OR ({target} IS NULL AND {source} IS NULL))"
        text = f"({more} OR ({same} AND {text}))" if text else more
    return text or "FALSE"
