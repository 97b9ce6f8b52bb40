"""What a round does with single actions of a plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
from deltalake import Schema

from raylake.delta.checkpoint import MAX_LOG_FILES, clean_up, clean_up_floor
from raylake.delta.live_rows import SourceFile
from raylake.delta.log_reader import LogReader, LogSnapshot
from raylake.delta.schema import arrow_schema
from raylake.delta.stats import DEFAULT_LEAVES, STATS_COLUMNS, columns_with_statistics
from raylake.delta.version_pins import needed_from
from raylake.errors import RayLakeError
from raylake.maintenance.actions import Action
from raylake.maintenance.outcomes import Ending
from raylake.maintenance.plan import Plan
from raylake.maintenance.policy import log_retention_s
from raylake.maintenance.price import Price
from raylake.maintenance.queue import Job
from raylake.maintenance.subjects import Subject
from raylake.storage.access import used_stores
from raylake.storage.place import place
from raylake.tables.aside import Aside, files_named
from raylake.tables.errors import FeatureUnsupported, NoEngine
from raylake.tables.fencing import is_fed
from raylake.tables.requests import Write
from raylake.tables.results import OperationResult
from raylake.tables.service import EngineChoice, TableService
from raylake.tables.space import require_space
from raylake.tables.upkeep_requests import Checkpoint, Compact, SetProperties, Vacuum, ZOrder

PIECE_BYTES: Final = 128 * 2**20
"""A compaction is written in pieces of about so much: between two of them it can give way."""
REWRITES: Final = ("compact", "zorder")
Files = tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True)
class End:
    """How an action ended; see :class:`Outcome`."""

    ending: Ending
    real: Price
    version: int | None = None
    note: str = ""


def jobs_of(subject: Subject, found: Plan, actions: Sequence[Action]) -> Iterator[Job]:
    """What is written anew for each action, in pieces.

    Raises:
        NotEnoughSpace: The disk has no room for all of it.
        RayLakeError: The log cannot be read.
    """
    root, version = place(subject.address), found.debt.version
    snapshot = LogReader(subject.address).snapshot(version)
    paths = [path for one in actions for group in one.groups for path in group]
    files = files_named(snapshot, paths)
    total = sum(one.size_bytes for one in files.values())
    require_space(root, total, f"{subject.name}: maintain")
    for action in actions:
        groups = [tuple(files[path] for path in group) for group in action.groups]
        yield Job(subject.address, action, list(_pieces(subject, snapshot, action, groups)))


def _pieces(
    subject: Subject, snapshot: LogSnapshot, action: Action, groups: Sequence[Files]
) -> Iterator[Aside]:
    configuration = snapshot.metadata.configuration
    whole = Aside(
        subject.address,
        snapshot.version,
        snapshot.metadata.schema_json,
        snapshot.metadata.partition_columns,
        dict(configuration),
        (),
        subject.policy.zorder if action.kind == "zorder" else (),
        subject.policy.target_bytes(configuration, subject.address),
        subject.policy.zorder,
        used_stores(),
    )
    piece: list[Files] = []
    size = 0
    for group in groups:
        nbytes = sum(one.size_bytes for one in group)
        if piece and size + nbytes > PIECE_BYTES:
            yield replace(whole, groups=tuple(piece))
            piece, size = [], 0
        piece.append(group)
        size += nbytes
    if piece:
        yield replace(whole, groups=tuple(piece))


def named_anew(subject: Subject) -> SetProperties | None:
    """The property by which readers go, naming the columns of the Z-order too; None: it does.

    Readers leave files out by columns alone that the table says it keeps statistics of.

    Raises:
        RayLakeError: The log cannot be read.
    """
    metadata = LogReader(subject.address).snapshot().metadata
    whole = arrow_schema(Schema.from_json(metadata.schema_json))
    stored = pa.schema([one for one in whole if one.name not in metadata.partition_columns])
    asked = [one for one in subject.policy.zorder if one in stored.names]
    default = {"delta.dataSkippingNumIndexedCols": str(DEFAULT_LEAVES)}
    wanted = columns_with_statistics({**default, **metadata.configuration}, stored, asked) or ()
    known = columns_with_statistics({**default, **metadata.configuration}, stored) or ()
    if set(wanted) <= set(known):
        return None
    plain = [one if re.fullmatch(r"[\w.]+", one) else f"`{one}`" for one in wanted]
    return SetProperties({STATS_COLUMNS: ",".join(plain)})


def request_of(subject: Subject, action: Action) -> Write:
    """An action as one operation on the table; of a rewrite the files are named."""
    paths = tuple(path for group in action.groups for path in group)
    if action.kind == "compact":
        return Compact(target_file_bytes=subject.policy.target_file_bytes, files=paths)
    if action.kind == "zorder":
        size = subject.policy.target_file_bytes
        return ZOrder(subject.policy.zorder, target_file_bytes=size, files=paths)
    if action.kind == "vacuum":
        metadata = LogReader(subject.address).snapshot().metadata
        hours = subject.policy.retention_s(metadata.configuration) / 3600
        return Vacuum(retention_hours=hours)
    return Checkpoint()


def clean_log(subject: Subject, now_s: float) -> End:
    """Log entries beyond their retention leave; of a table that a pipeline feeds its owner sees."""
    root = place(subject.address)
    snapshot = LogReader(subject.address).snapshot()
    metadata = snapshot.metadata
    if is_fed(root, metadata.configuration):
        return End("nothing", Price(), note="its owner cleans its log up by itself")
    held = needed_from(root, metadata.id, int(now_s * 1000))
    floor = clean_up_floor(
        root,
        keep_from=snapshot.version if held is None else min(held, snapshot.version),
        retention_s=log_retention_s(metadata.configuration),
        max_log_files=MAX_LOG_FILES,
    )
    gone = clean_up(root, floor)
    return End("done" if gone else "nothing", Price(files_before=gone))


def real_price(result: OperationResult, cpu_s: float) -> Price:
    """What an operation took and brought."""
    files = result.files
    return Price(
        bytes_read=files.removed_bytes,
        bytes_written=files.added_bytes,
        cpu_s=cpu_s,
        files_before=files.removed,
        files_after=files.added,
    )


def told_of(error: RayLakeError | None) -> str:
    """Why an action came to nothing, in words."""
    if error is None:
        return "stopped before it had begun"
    return f"{error.code}: {error.message}" + (f" ({error.hint})" if error.hint else "")


def spark_takes(engine: EngineChoice, tables: TableService) -> Callable[[Subject, int], bool]:
    """Whether rewrites of a table that read so many bytes are Spark's.

    Args:
        engine: The pipeline's.
        tables: What knows whether there is a Spark.
    """

    def takes(subject: Subject, nbytes: int) -> bool:
        small = engine == "auto" and nbytes <= subject.policy.spark_above_bytes
        if engine == "delta-rs" or small:
            return False
        metadata = LogReader(subject.address).snapshot().metadata
        if is_fed(place(subject.address), metadata.configuration):
            return False
        try:
            tables.explain(subject.address, Compact(), engine="spark")
        except (NoEngine, FeatureUnsupported):
            return False
        return True

    return takes
