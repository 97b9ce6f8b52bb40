"""Which rows of files with Kafka's coordinates leave when others take their place (DESIGN §4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.delta.log_reader import LogReader
from raylake.delta.rewritten import RowsOfBoth, RowsTaken
from raylake.delta.verify_data import ROW_COLUMNS, LiveFile, read
from raylake.delta.verify_offsets import DEFAULT_BUDGET_BYTES, Offsets, OffsetSet
from raylake.errors import LogDamaged, Refused

Key = tuple[str, int]
_BEFORE: Final = "before"
_AFTER: Final = "after"


class RowsAdded(Refused):
    """Files hold rows that the files whose place they take did not hold."""

    code = "rows_added"


def rows_taken(
    reader: LogReader,
    before: Iterable[LiveFile],
    after: Iterable[LiveFile],
    *,
    recreated: Collection[Key] = (),
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> Mapping[Key, RowsTaken]:
    """How many rows leave and between which offsets, by topic and partition.

    Each row is known by topic, partition and offset; each of those that stay was there before.

    Args:
        reader: Reads the files.
        before: The files that leave.
        after: The files that take their place.
        recreated: Partitions of topics that were created again: rows of both may have one offset.
        budget_bytes: Memory for the offsets; what exceeds it is refused.

    Raises:
        RowsOfBoth: Of which of a topic's incarnations the rows are cannot be told.
        RowsAdded: A row of the new files was not there, or stands in them twice.
        LogDamaged: A file cannot be read, or holds a row without coordinates, or one twice.
    """
    seen = OffsetSet(budget_bytes)
    left: Counter[Key] = Counter()
    for key, offsets in _coordinates(reader, before, _damaged):
        if len(seen.add(key, offsets, _BEFORE)):
            if key in recreated:
                raise RowsOfBoth.of(reader.path, key)
            raise LogDamaged(
                f"{reader.path}: offsets of {key[0]}[{key[1]}] stand in the files twice",
                hint="nothing was changed; `raylake verify --level data` says more",
            )
        left[key] += len(offsets)
    for key, offsets in _coordinates(reader, after, _added):
        if not seen.contains(key, offsets, _BEFORE).all() or len(seen.add(key, offsets, _AFTER)):
            raise _added(
                reader.path, f"would hold rows of {key[0]}[{key[1]}] that did not lie there"
            )
        left[key] -= len(offsets)
    extents = seen.extents(_BEFORE, _AFTER)
    if seen.next_pass():
        raise RowsAdded(
            f"{reader.path}: more offsets than are looked at in one operation",
            hint="nothing was changed; change fewer rows at a time",
        )
    taken = {key: RowsTaken(rows, *extents[key]) for key, rows in left.items() if rows}
    if both := sorted(taken.keys() & set(recreated)):
        raise RowsOfBoth.of(reader.path, both[0])
    return taken


def _coordinates(
    reader: LogReader, files: Iterable[LiveFile], without: Callable[[str, str], Exception]
) -> Iterator[tuple[Key, Offsets]]:
    for path, batch in read(reader, list(files), ROW_COLUMNS, _refuse):
        topics, partitions, offsets = (batch.column(name) for name in ROW_COLUMNS)
        if max(topics.null_count, partitions.null_count, offsets.null_count):
            raise without(path, "holds rows without topic, partition or offset")
        for topic in pc.unique(topics).to_pylist():
            of_topic = batch.filter(pc.equal(topics, topic))
            numbers = of_topic.column(ROW_COLUMNS[1]).to_numpy(zero_copy_only=False)
            places = of_topic.column(ROW_COLUMNS[2]).cast(pa.int64())
            found: Offsets = places.to_numpy(zero_copy_only=False)
            for number in np.unique(numbers).tolist():
                yield (str(topic), int(number)), found[numbers == number]


def _refuse(path: str, expected: str, found: str) -> None:
    raise _damaged(path, f"{found} where {expected} is expected")


def _added(where: str, what: str) -> RowsAdded:
    return RowsAdded(
        f"{where}: {what}; rows of this table come from Kafka alone",
        hint="nothing was changed; leave _topic, _partition and _offset as they are, and insert no "
        "rows",
    )


def _damaged(path: str, what: str) -> LogDamaged:
    return LogDamaged(
        f"{path}: {what}",
        hint="nothing was changed; `raylake verify --level data` says more",
        path=path,
    )
