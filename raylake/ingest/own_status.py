"""A run's hold on its pipeline's status document: it is let go to a run that took over (I11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylake.errors import ConfigError, Fenced, Refused
from raylake.ingest.status import read_status, write_status
from raylake.storage.place import Place


class OwnStatus:
    """Writes the status document of one run.

    An owner of an idle table commits nothing and so learns of no newer owner; two runs would write
    the document in turns. Whose is newer is told by the tables' epochs, never by a clock.

    Args:
        path: The document; what lies there at the first write is an earlier run's.
    """

    def __init__(self, path: Place) -> None:
        self._path = path
        self._written = False

    def write(self, document: dict[str, Any]) -> None:
        """Replace the document.

        Raises:
            Fenced: The one that is there is of a run that took a table over; it was left alone.
            OSError: It cannot be written.
        """
        if self._written:
            _refuse_when_taken_over(document, self._found())
        write_status(self._path, document)
        self._written = True

    def _found(self) -> Mapping[str, Any]:
        try:
            return read_status(self._path)
        except (ConfigError, Refused):
            return {}


def _refuse_when_taken_over(mine: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if found.get("run_id") in (None, mine["run_id"]):
        return
    theirs = {table.get("table_id"): table.get("epoch") for table in _tables(found).values()}
    for name, table in _tables(mine).items():
        epoch, newer = table.get("epoch"), theirs.get(table.get("table_id"))
        if epoch is None or newer is None or newer <= epoch:
            continue
        job = found.get("job") or {}
        raise Fenced(
            f"{name}: run {found['run_id']} (pid {job.get('pid')} on {job.get('host')}) took the "
            f"table over, owner epoch {newer} after {epoch}",
            hint="this run was the old one and ends; what it had committed stays",
            run_id=found["run_id"],
        )


def _tables(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.get("tables") or {}
