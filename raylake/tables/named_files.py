"""Files in the folder of a side table that another table's commit names and that are not in it yet.

Dead letters and quarantined rows are decided by a commit of the table that they were meant for; its
owner's follow-up adds their files (DESIGN §4, I5; ADR 37). Until then only that other log tells
that they are no left-overs, however long the pipeline has stood still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from raylake.delta import log_files
from raylake.delta.ledger import PREFIX
from raylake.delta.log_reader import LogReader
from raylake.delta.tables_there import is_table
from raylake.storage.place import Place, folders
from raylake.tables.landing import operation_metadata

LETTERS: Final = "dead_letters"
QUARANTINE: Final = "quarantine"


def named_elsewhere(root: Place) -> set[str]:
    """The files, relative to the folder; none where it is no dead-letter table or quarantine.

    The other tables are looked for where a lake has them: ``<lake>/<layer>/<name>``.

    Args:
        root: The table, ``<lake>/dead_letters/<pipeline>`` or ``<lake>/quarantine/<pipeline>``.

    Raises:
        LogDamaged: A log is torn.
    """
    kind = root.parent.name
    if kind not in (LETTERS, QUARANTINE):
        return set()
    txns = LogReader(str(root)).snapshot().txns
    found: set[str] = set()
    for table in _tables(root.parent.parent):
        table_id = LogReader(str(table)).snapshot().metadata.id
        app = f"{PREFIX}{table_id}" if kind == LETTERS else f"{PREFIX}{kind}/{table_id}"
        stored = txns.get(app, -1)
        for version in log_files.commit_versions(table):
            if version > stored:
                actions = log_files.read_commit(table, version) or []
                found |= {unquote(str(one["path"])) for one in _named(kind, actions)}
    return found


def _tables(lake: Place) -> Iterator[Place]:
    for layer in folders(lake):
        if layer.name[:1] not in "_." and layer.name not in (LETTERS, QUARANTINE):
            yield from (one for one in folders(layer) if is_table(str(one)))


def _named(kind: str, actions: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    if kind == QUARANTINE:
        return list(operation_metadata(log_files.commit_info(actions)).get(kind) or ())
    ours = log_files.our_metadata(actions) or {}
    replayed = (ours.get("replay") or {}).get("letter_files") or ()
    return [*(ours.get("dead_letters") or ()), *replayed]
