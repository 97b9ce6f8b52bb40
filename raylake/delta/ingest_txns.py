"""Where a kafka-delta-ingest job stands, from the txns of the table that it writes.

Its scheme (``src/delta_helpers.rs`` and ``src/lib.rs`` of delta-io/kafka-delta-ingest): each commit
carries, for each partition, the txn ``<app id>-<partition>`` → offset of the last record in the
table, and what the job reads next is the offset after it. Also ``seek_offsets`` are written so: as
offsets that are done with. The topic's name is not among them: a job reads one topic. A partition
without a txn tells nothing: it may be empty, or the job may have begun it at its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from raylake.delta.ledger import PREFIX
from raylake.delta.txn_listing import foreign_txns
from raylake.errors import ConfigError
from raylake.storage.place import Place

_APP = re.compile(r"(?P<app>.+)-(?P<partition>\d+)")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class IngestPosition:
    """Where a job stands.

    Attributes:
        app_id: The job's app id.
        ends: By partition, the next offset to read.
    """

    app_id: str
    ends: Mapping[int, int]


def read_ingest_txns(table: Place, app_id: str | None = None) -> IngestPosition:
    """Where a job stands by its table.

    Args:
        table: The folder of the table that it writes.
        app_id: Its ``--app_id``; may be left out where the table knows only one.

    Raises:
        ConfigError: There is no table, it has no such txns, or those of several jobs.
        LogDamaged: The log cannot be read, or not whole.
        DependencyUnreachable: The table's store does not answer.
    """
    found: dict[str, dict[int, int]] = {}
    for text, version in foreign_txns(table).items():
        match = _APP.fullmatch(text)
        if match and not text.startswith(PREFIX) and not _UUID.fullmatch(text):
            found.setdefault(match["app"], {})[int(match["partition"])] = version + 1
    if app_id is None and len(found) == 1:
        (app_id,) = found
    if app_id is None and found:
        raise ConfigError(
            f"{table}: {len(found)} jobs wrote this table: {', '.join(sorted(found))}",
            hint="name the one that is taken over with --with app-id=…",
            app_ids=sorted(found),
        )
    if app_id is None or app_id not in found:
        known = f"those of {', '.join(sorted(found))}" if found else "none of that form"
        raise ConfigError(
            f"{table}: no txn `{app_id or '<app id>'}-<partition>` of kafka-delta-ingest is in "
            f"its log: {known}",
            hint="is it the table that the job writes, and the app id that the job was given?",
        )
    return IngestPosition(app_id, found[app_id])
