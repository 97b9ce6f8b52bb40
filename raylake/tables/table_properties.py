"""Which table properties may be set: those that are honoured, and why others are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from raylake.near import did_you_mean
from raylake.tables.errors import BadRequest, FeatureUnsupported
from raylake.tables.upkeep_requests import DropColumn, RenameColumn, SetProperties

TARGET_SIZE: Final = "delta.targetFileSize"
_SIZE: Final = re.compile(r"^\s*(\d+)\s*([kmgt]?)(?:i?b)?\s*$", re.IGNORECASE)
_FACTOR: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_INTERVAL: Final = re.compile(r"^interval\s+\d+\s+(second|minute|hour|day|week)s?$", re.IGNORECASE)
_OWN_KEY: Final = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")

Check = Callable[[str], str]


def size_bytes(text: str) -> int | None:
    """Bytes of a text such as ``128mb``; None where it is none."""
    match = _SIZE.match(text)
    return int(match[1]) * _FACTOR[match[2].lower()] if match else None


def _boolean(text: str) -> str:
    return "" if text.lower() in ("true", "false") else "write true or false"


def _interval(text: str) -> str:
    return "" if _INTERVAL.match(text.strip()) else "write it as: interval 7 days"


def _size(text: str) -> str:
    return "" if size_bytes(text) else "write a size such as 128mb"


def _count(least: int) -> Check:
    def check(text: str) -> str:
        whole = re.fullmatch(r"-?\d+", text.strip())
        return "" if whole and int(text) >= least else f"write a number from {least} on"

    return check


def _some(text: str) -> str:
    return "" if text.strip() else "name at least one column"


def _one_of(*allowed: str) -> Check:
    def check(text: str) -> str:
        return "" if text in allowed else f"write {' or '.join(allowed)}"

    return check


HONOURED: Final[Mapping[str, Check]] = {
    "delta.appendOnly": _boolean,
    "delta.checkpoint.writeStatsAsJson": _boolean,
    "delta.checkpoint.writeStatsAsStruct": _boolean,
    "delta.checkpointInterval": _count(1),
    "delta.dataSkippingNumIndexedCols": _count(-1),
    "delta.dataSkippingStatsColumns": _some,
    "delta.deletedFileRetentionDuration": _interval,
    "delta.enableChangeDataFeed": _boolean,
    "delta.enableDeletionVectors": _boolean,
    "delta.enableExpiredLogCleanup": _boolean,
    "delta.isolationLevel": _one_of("Serializable"),
    "delta.logRetentionDuration": _interval,
    TARGET_SIZE: _size,
}
"""What delta-rs, or a request of ours, goes by. Deletion vectors it reads; Spark writes them."""

SPARK_ONLY: Final[Mapping[str, str]] = {
    "delta.autoOptimize.autoCompact": "compaction after a write",
    "delta.autoOptimize.optimizeWrite": "optimised writes",
    "delta.checkpointPolicy": "v2 checkpoints",
    "delta.columnMapping.mode": "column mapping",
    "delta.enableIcebergCompatV1": "Iceberg compatibility",
    "delta.enableIcebergCompatV2": "Iceberg compatibility",
    "delta.enableInCommitTimestamps": "in-commit timestamps",
    "delta.enableRowTracking": "row tracking",
    "delta.enableTypeWidening": "type widening without a rewrite",
    "delta.randomizeFilePrefixes": "random file prefixes",
    "delta.randomPrefixLength": "random file prefixes",
    "delta.tuneFileSizesForRewrites": "file sizes tuned for rewrites",
    "delta.universalFormat.enabledFormats": "UniForm",
}
"""What Spark alone goes by."""

_NOWHERE: Final = (
    (
        ("clustering", "clusterby", "liquid"),
        "liquid clustering (delta-rs cannot write its domain metadata, nothing here compacts it)",
        "use a Z-order: zorder_by, or ZOrder(columns)",
    ),
    (
        ("bloom",),
        "bloom filters (neither delta-rs nor the open Delta for Spark writes Delta's index)",
        "use a Z-order: it sharpens the values by which files are left out",
    ),
)
"""Parts of keys for what no engine here can do safely, what it is, and what to use instead."""
_RESERVED: Final[Mapping[str, str]] = {
    "delta.minReaderVersion": "the protocol follows from what a table uses",
    "delta.minWriterVersion": "the protocol follows from what a table uses",
    "delta.columnMapping.maxColumnId": "an engine counts it",
    "delta.setTransactionRetentionDuration": "positions in the table's log would expire",
}


def check_properties(wanted: Mapping[str, str], where: str, *, spark: bool = False) -> None:
    """Refuse keys and values that mean nothing here, each by name.

    Args:
        wanted: Key to value.
        where: For messages.
        spark: Whether Spark sets them, which checks the values of what it alone honours.

    Raises:
        FeatureUnsupported: Spark alone honours it.
        BadRequest: The key is unknown or reserved, or the value is none of its.
    """
    for key, text in wanted.items():
        _refuse_nowhere(key, where)
        refuse_reserved(key, where)
        if not key.startswith("delta."):
            continue
        if key in SPARK_ONLY:
            if spark:
                continue
            raise FeatureUnsupported(
                f"{where}: {key} ({SPARK_ONLY[key]}) is not honoured by delta-rs",
                hint="use engine: spark",
                feature=key,
            )
        if key not in HONOURED:
            raise BadRequest(
                f"{where}: there is no property {key!r}",
                hint=did_you_mean(key, [*HONOURED, *SPARK_ONLY]),
                property=key,
            )
        wrong = HONOURED[key](text)
        if wrong:
            raise BadRequest(f"{where}: {key} = {text!r}", hint=wrong, property=key)


def _refuse_nowhere(key: str, where: str) -> None:
    folded = key.lower().replace("_", "")
    for parts, what, instead in _NOWHERE:
        if folded.startswith("delta.") and any(part in folded for part in parts):
            raise FeatureUnsupported(
                f"{where}: {key}: nothing here sets up {what}", hint=instead, feature=key
            )


def refuse_reserved(key: str, where: str) -> None:
    """Refuse a key that is not the user's to set or unset.

    Raises:
        BadRequest: Saying why, or what to use instead.
    """
    if key.startswith("delta.constraints."):
        raise BadRequest(
            f"{where}: {key!r} is reserved",
            hint="use AddConstraint or DropConstraint",
            property=key,
        )
    if key.startswith(("delta.feature.", "raylake.")) or key in _RESERVED:
        reason = _RESERVED.get(key, "it is set by what needs it")
        raise BadRequest(f"{where}: {key!r} is reserved: {reason}", property=key)
    if not _OWN_KEY.match(key) or f"delta.{key}" in {**HONOURED, **SPARK_ONLY}:
        raise BadRequest(
            f"{where}: {key!r} is no property",
            hint=did_you_mean(f"delta.{key}", [*HONOURED, *SPARK_ONLY]),
            property=key,
        )


def needs_spark(operation: object) -> str:
    """Why delta-rs cannot do an operation on any table; empty where it can."""
    if isinstance(operation, RenameColumn | DropColumn):
        return "renaming and dropping columns needs columnMapping"
    if isinstance(operation, SetProperties):
        return ", ".join(f"{key} is Spark's" for key in operation.properties if key in SPARK_ONLY)
    return ""
