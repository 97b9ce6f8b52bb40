"""How the columns of a data file are encoded, decided by a look at its rows (ADR 15)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.stats import Leaf, leaf_values, leaves, wanted

SAMPLE_SLICES = 4
SLICE_ROWS = 512

_DICTIONARY_BELOW = 0.5
_DICTIONARY_BELOW_FOR_NUMBERS = 1 / 16
"""Shares of distinct values; numbers have a cheap encoding without a dictionary, texts have not."""
_LARGEST_SAMPLE_BYTES = 32 * 1024 * 1024
"""Counting distinct values copies them, and a dictionary of such values would be given up."""


@dataclass(frozen=True, slots=True)
class ColumnEncodings:
    """Settings of a Parquet writer, by the dotted paths of leaf columns.

    Attributes:
        dictionary: Leaves with a dictionary.
        plain: Encodings of leaves without one, where it is not ``PLAIN``.
        statistics: Leaves with minimum, maximum and null count in the footer.
    """

    dictionary: list[str]
    plain: dict[str, str]
    statistics: list[str]


def column_encodings(data: pa.Table, stats_columns: Sequence[str] | None) -> ColumnEncodings:
    """Choose by the kinds of the columns and a sample of their values.

    Few distinct values take a dictionary; other whole numbers and times take their differences,
    which costs less than compressing them and leaves less. Texts and binaries have statistics only
    where the table's log wants them: comparing texts costs as much as encoding them.

    Args:
        data: The rows of one file.
        stats_columns: Columns whose statistics the Delta log needs; None for the first 32 leaves.
    """
    found = leaves(data.schema)
    named = frozenset(leaf.index for leaf in wanted(found, stats_columns))
    uses = Counter(leaf.place for leaf in found)
    sample = _sample(data)
    dictionary, plain, statistics = [], {}, []
    for leaf in found:
        if leaf.index in named or not _costly_to_compare(leaf.type):
            statistics.append(leaf.place)
        if _repeats(leaf, sample):
            dictionary.append(leaf.place)
        elif _has_differences(leaf.type) and uses[leaf.place] == 1:
            plain[leaf.place] = "DELTA_BINARY_PACKED"
    return ColumnEncodings(dictionary, plain, statistics)


def _sample(data: pa.Table) -> pa.Table:
    step = max(SLICE_ROWS, -(-data.num_rows // SAMPLE_SLICES))
    return pa.concat_tables(
        [data.slice(start, SLICE_ROWS) for start in range(0, data.num_rows, step)]
    )


def _repeats(leaf: Leaf, sample: pa.Table) -> bool:
    """Whether a dictionary is worth it; where nobody knows (in lists and maps), it may be."""
    if leaf.repeated:
        return True
    column = leaf_values(sample, leaf)
    if pa.types.is_boolean(column.type) or column.nbytes > _LARGEST_SAMPLE_BYTES:
        return False
    share = pc.count_distinct(column, mode="all").as_py() / max(1, len(column))
    most = _DICTIONARY_BELOW_FOR_NUMBERS if _has_differences(leaf.type) else _DICTIONARY_BELOW
    return bool(share <= most)


def _has_differences(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_signed_integer(kind) or types.is_timestamp(kind) or types.is_date32(kind))


def _costly_to_compare(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )
