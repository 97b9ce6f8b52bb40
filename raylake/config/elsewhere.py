"""Keys that people look for in a derived table and that it does not have: why, and what to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from raylake.config.findings import Loc


class Elsewhere(NamedTuple):
    """Why a key is not there, and what to use instead."""

    why: str
    hint: str


_UNMATCHED: Final = Elsewhere(
    "not_matched_by_source is not for a table that follows its source: a step gets what changed, "
    "and a row that it does not name is not gone",
    "rows that leave the source leave this table by themselves, and delete_when tells by a row "
    "that its key is gone; a whole extract is merged by lake.table(NAME).merge(rows, keys, "
    "not_matched_by_source=…)",
)
_CLUSTERED: Final = Elsewhere(
    "liquid clustering is not set up here: delta-rs cannot write its domain metadata, so the table "
    "would be Spark's alone, and nothing here compacts or rewrites such a table",
    "zorder_by lays rows together, optimize_after_write: zorder keeps them so",
)
_BLOOM: Final = Elsewhere(
    "bloom filters are not written here: neither delta-rs nor the open Delta for Spark writes "
    "Delta's bloom filter index, nor would they read it",
    "zorder_by sharpens the least and greatest values by which files are left out",
)
_KEYS: Final[Mapping[str, Elsewhere]] = {
    "not_matched_by_source": _UNMATCHED,
    "delete_unmatched": _UNMATCHED,
    "cluster_by": _CLUSTERED,
    "clustering": _CLUSTERED,
    "liquid_clustering": _CLUSTERED,
    "bloom_filter": _BLOOM,
    "bloom_filters": _BLOOM,
    "bloom_filter_columns": _BLOOM,
}


def elsewhere(loc: Loc) -> Elsewhere | None:
    """What to say of an unknown key; None: only that it is unknown.

    Args:
        loc: The key's place in the file.
    """
    if len(loc) < 3 or loc[0] not in ("silver", "gold"):
        return None
    return _KEYS.get(str(loc[-1]))
