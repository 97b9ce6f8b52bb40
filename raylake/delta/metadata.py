"""The ``raylake`` metadata of a commit: what it was, who made it, what it holds (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raylake.delta import log_files
from raylake.delta.identity import OwnerIdentity
from raylake.delta.ledger import merged_ranges
from raylake.errors import UnsupportedTable
from raylake.ingest.unit import Counts, DataFile, OffsetRange, SourcePartition, Unit
from raylake.storage.place import Place

FORMAT = 1
KEY = "raylake"
LOOK_BACK_VERSIONS = 1000


def last_metadata(root: Place) -> dict[str, Any] | None:
    """The ``raylake`` metadata of the newest commit of ours; None when the log has none left."""
    versions = log_files.commit_versions(root)
    for version in reversed(versions[-LOOK_BACK_VERSIONS:]):
        actions = log_files.read_commit(root, version)
        found = log_files.our_metadata(actions) if actions else None
        if found is not None:
            check_format(found, f"{root} version {version}")
            return found
    return None


def count_data_commits(root: Place, after_version: int, before_version: int) -> int:
    """How many versions between two of them brought rows; those without a log file are left out.

    Raises:
        LogDamaged: A log file is empty or torn.
        OSError: One cannot be read.
    """
    found = (log_files.read_commit(root, v) for v in range(after_version + 1, before_version))
    kinds = ((log_files.our_metadata(one or []) or {}).get("kind") for one in found)
    return sum(kind in ("data", "replay") for kind in kinds)


def base(kind: str, batch: str, number: int, identity: OwnerIdentity) -> dict[str, Any]:
    """The part that every commit of ours carries.

    Args:
        kind: ``create``, ``epoch``, ``admit``, ``data``, ``evolve``, ``watermark``, ``adopt``,
            ``skip``, ``rewind``, ``rewrite``, ``replay``, ``append_only``, ``statistics``,
            ``slot_closed``, ``dead_letters``, ``withdraw``, ``replayed``, ``release``.
        batch: The batch uuid, by which a commit is found again (I4).
        number: The value of ``raylake/owner`` in this commit.
        identity: The owner.
    """
    made = {
        "format": FORMAT,
        "kind": kind,
        "batch": batch,
        "owner": number,
        "identity": identity.to_json(),
    }
    if identity.stands_in_for is not None:
        made["stands_in_for"] = dict(identity.stands_in_for)
    return made


def of_units(units: Sequence[Unit], pipelines: Mapping[SourcePartition, str]) -> dict[str, Any]:
    """The part of a data commit: units, exact ranges with counts, dead-letter files, flags."""
    flagged: dict[str, int] = {}
    for unit in units:
        for name, count in unit.flagged.items():
            flagged[name] = flagged.get(name, 0) + count
    return {
        "units": [u.unit_id for u in units],
        "ranges": [range_json(r, pipelines[r.source]) for r in merged_ranges(units)],
        "dead_letters": [file_json(f) for u in units for f in u.dead_letter_files],
        "flagged": flagged,
    }


def range_json(one: OffsetRange, pipeline: str) -> dict[str, Any]:
    """One range as plain data."""
    counts = one.counts
    return {
        "pipeline": pipeline,
        "topic": one.source.topic,
        "topic_id": one.source.topic_id,
        "partition": one.source.partition,
        "start": one.start,
        "end": one.end,
        "rows": counts.rows,
        "dead": counts.dead,
        "absent": counts.absent,
        "lost": counts.lost,
        "dropped": counts.dropped,
        "leader_epoch": one.leader_epoch,
        "max_event_ms": one.max_event_ms,
    }


def range_from_json(data: Mapping[str, Any]) -> OffsetRange:
    """A range read back from commit metadata."""
    counts = Counts(*(int(data[k]) for k in ("rows", "dead", "absent", "lost", "dropped")))
    return OffsetRange(
        SourcePartition(data["topic"], data["topic_id"], int(data["partition"])),
        int(data["start"]),
        int(data["end"]),
        counts,
        int(data.get("leader_epoch", -1)),
        data.get("max_event_ms"),
    )


def file_json(file: DataFile) -> dict[str, Any]:
    """A file as plain data, with all that its commit elsewhere needs."""
    return {
        "path": file.path,
        "size_bytes": file.size_bytes,
        "rows": file.rows,
        "partition_values": dict(file.partition_values),
        "stats": file.stats,
    }


def file_from_json(data: Mapping[str, Any]) -> DataFile:
    """A file read back from commit metadata."""
    return DataFile(
        path=data["path"],
        size_bytes=int(data["size_bytes"]),
        rows=int(data["rows"]),
        partition_values=dict(data["partition_values"]),
        stats=data["stats"],
    )


def check_format(metadata: Mapping[str, Any], where: str) -> None:
    """Refuse metadata of a newer release.

    Raises:
        UnsupportedTable: The format number is above ours.
    """
    found = int(metadata.get("format", 0))
    if found > FORMAT:
        raise UnsupportedTable(
            f"{where} was written in ledger format {found}; this release knows {FORMAT}",
            hint="Run it with the release that wrote it, or a newer one.",
            format=found,
        )
