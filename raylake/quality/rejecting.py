"""Rows that rules reject: which, why, and the value that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylake.layers.derived import Rejected
from raylake.quality.named import NamedRule
from raylake.quality.results import SAMPLE_VALUES, clipped
from raylake.quality.row_json import texts
from raylake.quality.row_rules import Mask


@dataclass(frozen=True, slots=True)
class RejectedMask:
    """Rows that leave for one reason.

    Attributes:
        rule: The rule's name.
        column: The column that it is about; empty: the row.
        places: Which rows, ascending (int64).
        values: The text of the failing value, a row each; null where there is none.
        reason: In plain words.
        severity: The rule's.
    """

    rule: str
    column: str
    places: pa.Array
    values: pa.Array
    reason: str
    severity: str

    @classmethod
    def of(
        cls,
        one: NamedRule,
        column: str,
        reason: str,
        rows: pa.Table,
        places: npt.NDArray[np.int64],
    ) -> RejectedMask:
        """The rows at these places."""
        at = pa.array(places)
        values = failing_values(one, column, rows, at)
        return cls(one.name, column, at, values, reason, one.rule.severity)


def failing_values(one: NamedRule, column: str, rows: pa.Table, places: pa.Array) -> pa.Array:
    """The text of what is wrong in rows: the column's value, or those of the rule's columns."""
    if column:
        return texts(rows.column(column).take(places))
    if not one.columns:
        return pa.nulls(len(places), pa.string())
    some = rows.select(list(dict.fromkeys(one.columns))).take(places)
    return texts(pa.chunked_array(some.to_struct_array()))


def sample(
    one: NamedRule, by_column: Sequence[tuple[str, Mask]], rows: pa.Table
) -> tuple[str, ...]:
    """The first failing values as text, at most :data:`~raylake.quality.results.SAMPLE_VALUES`."""
    found: list[tuple[int, str]] = []
    for column, failed in by_column:
        places = np.flatnonzero(failed)[:SAMPLE_VALUES]
        values = failing_values(one, column, rows, pa.array(places)).to_pylist()
        found += [
            (int(at), clipped(value))
            for at, value in zip(places, values, strict=True)
            if value is not None
        ]
    return tuple(value for _, value in sorted(found)[:SAMPLE_VALUES])


def rejected_rows(
    rejected: Sequence[RejectedMask],
    rows: pa.Table,
    came: pa.Table | None = None,
    origin: pa.Array | None = None,
) -> tuple[Rejected, ...]:
    """What leaves, as the rows that came from the source.

    Args:
        rejected: Which of the rows.
        rows: The rows that were judged.
        came: The source's rows; None: those were judged.
        origin: For each judged row the place of its source row; null where it was made of several:
            then the judged row itself is told, which cannot be replayed.
    """
    found: list[Rejected] = []
    for one in rejected:
        if came is None or origin is None:
            found.append(_taken(one, rows, one.places, one.values))
            continue
        places = origin.take(one.places)
        known = pc.is_valid(places)
        if places.null_count < len(places):
            found.append(_taken(one, came, places.filter(known), one.values.filter(known)))
        if places.null_count:
            alone = pc.invert(known)
            found.append(_taken(one, rows, one.places.filter(alone), one.values.filter(alone)))
    return tuple(found)


def _taken(one: RejectedMask, rows: pa.Table, places: pa.Array, values: pa.Array) -> Rejected:
    return Rejected(rows.take(places), one.rule, one.column, values, one.reason, one.severity)
