"""Where a Spark Structured Streaming query stands, from its checkpoint folder.

The layout is that of Spark's ``OffsetSeqLog`` and ``CommitLog`` in format ``v1``: a file
``offsets/N`` is written before batch N runs and names the offsets at which it ends, ``commits/N``
after it has run, and ``metadata`` holds the query's id. Delta's sink writes a batch with the txn
``query id`` → N, so that the table itself can say whether a batch without a ``commits/N`` is in it,
and whether a checkpoint is an older copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raylake.delta.txn_listing import foreign_txns
from raylake.errors import ConfigError, LogDamaged, Refused, UnsupportedTable
from raylake.storage.place import Place, names
from raylake.storage.reach import reading

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


def read_spark_checkpoint(folder: Place, sink: Place | None = None) -> SparkPosition:
    """Where a query stands.

    Args:
        folder: The checkpoint's folder.
        sink: The Delta table that the query writes; it decides about a batch that was begun and
            not noted as done, and must know the query.

    Raises:
        ConfigError: The folder is no checkpoint, no batch is done, or no source of it is Kafka.
        UnsupportedTable: It has a newer format.
        LogDamaged: A file of it is missing or torn.
        Refused: Whether a batch is in the sink cannot be told, or the sink is another query's or
            further than the checkpoint.
        DependencyUnreachable: The store that holds it does not answer.
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
    if sink is not None:
        batch = _settled(folder, query_id, (done, planned), sink)
    elif planned > done:
        raise Refused(
            f"{_stand(folder, done, planned)}: whether batch {planned} is in Spark's table cannot "
            "be told",
            hint="stop the query, let it finish once with trigger(availableNow=True), or give its "
            "Delta table by --with sink=PATH",
            done=done,
            planned=planned,
        )
    else:
        batch = done
    return SparkPosition(query_id, batch, _ends(folder / "offsets" / str(batch)))


def _newest(folder: Place, name: str) -> int | None:
    below = folder / name
    try:
        with reading(below):
            found = names(below)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"{folder}: is no checkpoint of Spark Structured Streaming: it has no folder `{name}`",
            hint="give the folder that is the query's checkpointLocation",
        ) from error
    return max((int(one) for one in found if one.isdecimal()), default=None)


def _stand(folder: Place, done: int, planned: int) -> str:
    if planned <= done:
        return f"{folder}: batch {done} is the last one"
    return f"{folder}: batch {planned} was begun and batch {done} is the last that is noted done"


def _settled(folder: Place, query_id: str, between: tuple[int, int], sink: Place) -> int:
    """The newest batch in the sink, of those that the checkpoint knows."""
    done, planned = between
    stand = _stand(folder, done, planned)
    if not query_id:
        raise Refused(
            f"{folder}: no readable `metadata` names the query, so that {sink} cannot tell which "
            "batches are in it",
            hint="is it the whole checkpoint? Leave --with sink=… out if no batch is unfinished",
            done=done,
            planned=planned,
        )
    stored = foreign_txns(sink).get(query_id)
    if stored is None:
        raise Refused(
            f"{stand}, and {sink} holds no batch of this query ({query_id})",
            hint="is it the Delta table that this query writes, with this checkpoint?",
            done=done,
            planned=planned,
            stored=stored,
        )
    if stored > planned:
        raise Refused(
            f"{stand}, and {sink} holds batch {stored}: the checkpoint is older than the table",
            hint="is it a copy? Take the checkpoint that the query wrote last",
            done=done,
            planned=planned,
            stored=stored,
        )
    return max(done, stored)


def _query_id(folder: Place) -> str:
    file = folder / "metadata"
    try:
        with reading(file):
            document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
    return str(document.get("id", "")) if isinstance(document, dict) else ""


def _ends(file: Place) -> dict[str, dict[int, int]]:
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


def _kafka_offsets(line: str, file: Place) -> dict[str, dict[int, int]]:
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


def _lines(file: Place) -> list[str]:
    """A log file's lines after the version's.

    Raises:
        UnsupportedTable: The version is not one that this release reads.
        LogDamaged: The file is missing, or has no version.
    """
    try:
        with reading(file):
            text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise LogDamaged(
            f"{file}: cannot be read: {error}", hint="give the offsets with --from offsets"
        ) from error
    # Only a line feed ends a line here; JSON may hold what else Unicode counts among line ends.
    version, *rest = text.removesuffix("\n").split("\n")
    if version == VERSION:
        return rest
    if version[:1] == "v" and version[1:].isdecimal():
        raise UnsupportedTable(
            f"{file}: the checkpoint has format {version}; this release reads {VERSION}",
            hint="the file names topic, partition and the next offset: give them with "
            "--from offsets --source 'topic[0]=…'",
            format=version,
        )
    raise LogDamaged(
        f"{file}: does not begin with a format version",
        hint="is it a checkpoint of Spark Structured Streaming? It may be torn",
    )
