"""A replay's commit in a data table: dead letters that have become rows (I5).

It adds their rows, moves their count from ``dead`` to ``rows``, and names what the letters are from
now on; the dead-letter table follows, as it follows a rewind. Positions do not move, so the
account counts each offset once before, between and after the two commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from raylake.delta import log_files, metadata
from raylake.delta.attempts import Draft
from raylake.delta.ledger import app_id, changed_values
from raylake.delta.owner_core import OwnerCore
from raylake.delta.owner_steps import refresh
from raylake.delta.table_state import TableState
from raylake.delta.unit_check import check_file
from raylake.errors import Refused, ReplayOvertaken
from raylake.ingest.unit import DataFile, PartitionState, SourcePartition
from raylake.storage.place import Place

_LETTERS_MOVE = ("replay", "rewind")


@dataclass(frozen=True, slots=True)
class Replay:
    """Dead letters that were looked at again; their files are written and of no table yet.

    Attributes:
        replay_id: Unique; handing the same replay over again changes nothing.
        pipeline: The pipeline.
        table: The table's name in the dead-letter table.
        stored: The version of the data table up to which its letters were there to be looked at.
        fingerprint: Of the schema that the rows were written with.
        rows: How many letters of each partition have become rows.
        files: The rows.
        letter_files: What each letter that was looked at is from now on.
        note: What was asked for, for the commit: plain data.
    """

    replay_id: str
    pipeline: str
    table: str
    stored: int
    fingerprint: str
    rows: Mapping[SourcePartition, int]
    files: tuple[DataFile, ...]
    letter_files: tuple[DataFile, ...]
    note: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which :meth:`from_dict` makes it again."""
        return {
            "id": self.replay_id,
            "pipeline": self.pipeline,
            "table": self.table,
            "stored": self.stored,
            "fingerprint": self.fingerprint,
            "partitions": self.partitions(),
            "files": [metadata.file_json(file) for file in self.files],
            "letter_files": [metadata.file_json(file) for file in self.letter_files],
            "note": dict(self.note),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Replay:
        """A replay read back; raises ``KeyError``, ``TypeError`` or ``ValueError`` for none."""
        rows = {
            SourcePartition(one["topic"], one["topic_id"], int(one["partition"])): int(one["rows"])
            for one in data["partitions"]
        }
        return cls(
            str(data["id"]),
            str(data["pipeline"]),
            str(data["table"]),
            int(data["stored"]),
            str(data["fingerprint"]),
            rows,
            tuple(metadata.file_from_json(one) for one in data["files"]),
            tuple(metadata.file_from_json(one) for one in data["letter_files"]),
            dict(data["note"]),
        )

    def partitions(self) -> list[dict[str, Any]]:
        """The rows by partition, as the commit tells them."""
        return [
            {"pipeline": self.pipeline, **asdict(source), "rows": count}
            for source, count in sorted(self.rows.items())
            if count
        ]


def landed_version(root: Place, replay_id: str, after_version: int) -> int | None:
    """The version that a replay made; None where it made none after that one.

    Raises:
        LogDamaged: A log file is torn.
    """
    for version, ours in _later(root, after_version):
        if ours is not None and (ours.get("replay") or {}).get("id") == replay_id:
            return version
    return None


def replay_once(core: OwnerCore, state: TableState, order: Replay) -> int:
    """Commit a replay on a refreshed handle, or find that it was committed.

    Returns:
        The version that has it.

    Raises:
        ReplayOvertaken: Look at the letters again; nothing was changed.
        Refused: It does not fit the account or a file is not as it was written.
        Contended: Another commit came first; try again.
    """
    refresh(core, state)
    done = _refuse_overtaken(core, order)
    if done is not None:
        core.sync()
        return done
    if order.fingerprint != state.fingerprint:
        raise ReplayOvertaken(f"{core.root}: the table's columns changed meanwhile")
    states = _moved(core, state, order)
    _check_files(core, state, order)
    values = {
        app_id(order.pipeline, source, name): value
        for source, after in states.items()
        for name, value in changed_values(state.states[source], after).items()
    }
    said = {
        "id": order.replay_id,
        "pipeline": order.pipeline,
        "table": order.table,
        "partitions": order.partitions(),
        "letter_files": [metadata.file_json(file) for file in order.letter_files],
        **order.note,
    }

    def landed(_version: int) -> None:
        state.states.update(states)

    return core.write(Draft("replay", values, {"replay": said}, order.files), landed)


def _refuse_overtaken(core: OwnerCore, order: Replay) -> int | None:
    """The version that has the replay, or None where nothing has touched its letters since."""
    newest, expected = int(core.table.version()), order.stored + 1
    for version, ours in _later(core.root, order.stored):
        if version > newest or version != expected:
            break
        expected += 1
        if ours is None or ours.get("kind") not in _LETTERS_MOVE:
            continue
        if (ours.get("replay") or {}).get("id") == order.replay_id:
            return version
        raise ReplayOvertaken(
            f"{core.root}: version {version} (kind {ours.get('kind')}) came while the letters were "
            "looked at; nothing was changed",
            hint="give the order again: some of them may have become rows",
            version=version,
        )
    if expected <= newest:
        raise ReplayOvertaken(
            f"{core.root}: version {expected} was cleaned up while the letters were looked at",
            hint="give the order again",
            version=expected,
        )
    return None


def _later(root: Place, after: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    for version in log_files.commit_versions(root):
        if version > after:
            yield version, log_files.our_metadata(log_files.read_commit(root, version) or [])


def _moved(
    core: OwnerCore, state: TableState, order: Replay
) -> dict[SourcePartition, PartitionState]:
    found = {}
    for source, rows in order.rows.items():
        known = state.states.get(source)
        dead = 0 if known is None else known.totals.dead
        if known is None or state.pipelines.get(source) != order.pipeline or rows > dead:
            raise Refused(
                f"{core.root}: the ledger counts {dead} dead letters of {source} for "
                f"{order.pipeline!r}, {rows} have become rows; nothing was changed",
                hint="`raylake verify --level data` says more",
                topic=source.topic,
                partition=source.partition,
            )
        totals = replace(known.totals, rows=known.totals.rows + rows, dead=dead - rows)
        found[source] = replace(known, totals=totals)
    return found


def _check_files(core: OwnerCore, state: TableState, order: Replay) -> None:
    stored = pa.schema([f for f in state.schema if f.name not in core.partition_by])
    looked = ((f, check_file(f, core.root, stored, core.partition_by)) for f in order.files)
    reasons = [f"{file.path} {reason}" for file, reason in looked if reason]
    rows = sum(file.rows for file in order.files)
    if rows != sum(order.rows.values()):
        reasons.append(f"{rows} rows in the files, {sum(order.rows.values())} letters became rows")
    if reasons:
        raise Refused(
            f"{core.root}: {reasons[0]}; nothing was changed",
            hint="was the table vacuumed meanwhile? Give the order again",
        )
