"""Where a Spark Structured Streaming query stands, from its checkpoint folder.

The layout is that of Spark's ``OffsetSeqLog`` and ``CommitLog`` in format ``v1``: a file
``offsets/N`` is written before batch N runs and names the offsets at which it ends, ``commits/N``
after it has run, and ``metadata`` holds the query's id. Delta's sink writes a batch with the txn
``query id`` → N, so that the table itself can say whether a batch without a ``commits/N`` is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylake.delta import log_files
from raylake.delta.txn_listing import list_txns
from raylake.errors import ConfigError, LogDamaged, Refused, UnsupportedTable

VERSION = "v1"
_NO_OFFSETS = "-"


@dataclass(frozen=True, slots=True)
class SparkPosition:
    """The end of the newest batch that is in the sink.

    Attributes:
        query_id: The query's id; empty when the checkpoint does not say.
        batch: The number of that batch.
        ends: By topic and partition, the next offset to read.
    """

    query_id: str
    batch: int
    ends: Mapping[str, Mapping[int, int]]


def read_spark_checkpoint(folder: Path, sink: Path | None = None) -> SparkPosition:
    """Where a query stands.

    Args:
        folder: The checkpoint's folder.
        sink: The Delta table that the query writes; it decides about a batch that was begun and
            not noted as done.

    Raises:
        ConfigError: The folder is no checkpoint, no batch is done, or no source of it is Kafka.
        UnsupportedTable: It has a newer format.
        LogDamaged: A file of it is missing or cannot be read.
        Refused: Whether a batch is in the sink cannot be told.
    """
    planned, done = _newest(folder, "offsets"), _newest(folder, "commits")
    if planned is None or done is None:
        what = "holds no numbered file in `offsets`" if planned is None else "has no finished batch"
        raise ConfigError(
            f"{folder}: {what}",
            hint="give the folder that is the query's checkpointLocation, after its first batch",
        )
    _lines(folder / "commits" / str(done))
    query_id = _query_id(folder)
    batch = done if planned <= done else _settled(folder, query_id, (done, planned), sink)
    return SparkPosition(query_id, batch, _ends(folder / "offsets" / str(batch)))


def _newest(folder: Path, name: str) -> int | None:
    try:
        names = [path.name for path in (folder / name).iterdir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"{folder}: is no checkpoint of Spark Structured Streaming: it has no folder `{name}`",
            hint="give the folder that is the query's checkpointLocation",
        ) from error
    return max((int(one) for one in names if one.isdecimal()), default=None)


def _settled(folder: Path, query_id: str, between: tuple[int, int], sink: Path | None) -> int:
    """The newest batch in the sink, when Spark ended after it began one."""
    done, planned = between
    begun = f"{folder}: batch {planned} was begun and batch {done} is the last that is noted done"
    if sink is None:
        raise Refused(
            f"{begun}: whether batch {planned} is in Spark's table cannot be told",
            hint="stop the query, let it finish once with trigger(availableNow=True), or give its "
            "Delta table by --with sink=PATH",
            done=done,
            planned=planned,
        )
    stored = sink_batch(sink, query_id)
    if stored is None or stored > planned or not query_id:
        raise Refused(
            f"{begun}, and {sink} "
            + ("holds no batch of this query" if stored is None else f"holds batch {stored}"),
            hint="is it the Delta table that this query writes, with this checkpoint?",
            done=done,
            planned=planned,
            stored=stored,
        )
    return planned if stored == planned else done


def sink_batch(sink: Path, query_id: str) -> int | None:
    """The newest batch of a query in its Delta table; None when it holds none of it.

    Raises:
        ConfigError: There is no Delta table.
    """
    if not log_files.commit_versions(sink) and not log_files.checkpoint_versions(sink):
        raise ConfigError(f"{sink}: is not a Delta table", hint="give the table's folder")
    return list_txns(sink).get(query_id)


def _query_id(folder: Path) -> str:
    try:
        document = json.loads((folder / "metadata").read_text())
    except (OSError, ValueError):
        return ""
    return str(document.get("id", "")) if isinstance(document, dict) else ""


def _ends(file: Path) -> dict[str, dict[int, int]]:
    ends: dict[str, dict[int, int]] = {}
    # The first line after the version is the batch's own metadata, then there is one a source.
    for line in _lines(file)[1:]:
        for topic, found in _kafka_offsets(line, file).items():
            if ends.setdefault(topic, found) != found:
                raise Refused(
                    f"{file}: two sources of the query read topic {topic!r} and stand at different "
                    "offsets",
                    hint="give the right ones with --from offsets",
                    topic=topic,
                )
    if not ends:
        raise ConfigError(
            f"{file}: no source of this query is Kafka", hint="is it the right checkpoint?"
        )
    return ends


def _kafka_offsets(line: str, file: Path) -> dict[str, dict[int, int]]:
    """One source's offsets; empty when the source is not Kafka or had nothing."""
    if line == _NO_OFFSETS:
        return {}
    try:
        document: Any = json.loads(line)
    except ValueError as error:
        raise LogDamaged(f"{file}: a source's offsets are no JSON: {error}") from error
    if not isinstance(document, dict) or not document:
        return {}
    found = {}
    for topic, of in document.items():
        if not isinstance(of, dict) or not all(_is_offset(p, o) for p, o in of.items()):
            return {}
        found[str(topic)] = {int(p): o for p, o in of.items()}
    return found


def _is_offset(partition: str, offset: object) -> bool:
    return partition.isdecimal() and isinstance(offset, int) and offset >= 0


def _lines(file: Path) -> list[str]:
    """A log file's lines after the version's.

    Raises:
        UnsupportedTable: The version is not one that this release reads.
        LogDamaged: The file is missing, or has no version.
    """
    try:
        version, *rest = file.read_text().splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise LogDamaged(
            f"{file}: cannot be read: {error}", hint="give the offsets with --from offsets"
        ) from error
    if version == VERSION:
        return rest
    if version[:1] == "v" and version[1:].isdecimal():
        raise UnsupportedTable(
            f"{file}: the checkpoint has format {version}; this release reads {VERSION}",
            hint="write the query's offsets down and give them with --from offsets",
            format=version,
        )
    raise LogDamaged(
        f"{file}: does not begin with a format version",
        hint="is it a checkpoint of Spark Structured Streaming? It may be torn",
    )
