"""The readers of a table by name: how far each has come, and until when versions stay for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from raylake.delta.leases import Lease, Leases
from raylake.delta.log_reader import LogReader
from raylake.storage.place import Place
from raylake.tables.times import utc
from raylake.tables.versions import Versions

READER_COLUMNS: Final = ("reader", "version", "behind", "since", "until", "state")


@dataclass(frozen=True, slots=True)
class ReaderLease:
    """A reader of a table.

    Attributes:
        reader: Its name; of a derived table ``pipeline:layer.name``.
        version: The oldest version that it may still read.
        behind: Versions after that one.
        since: Since when it has stood there.
        until: When what it needs is no longer kept, unless it goes on.
        state: ``live``, or ``expired``: it holds nothing back any more.
    """

    reader: str
    version: int
    behind: int
    since: datetime
    until: datetime
    state: Literal["live", "expired"]


def leases_on(root: Place) -> list[ReaderLease]:
    """The readers of a table, by name.

    Raises:
        TableMissing: There is no table.
        LeaseUnread: A reader's document cannot be read.
    """
    latest = Versions(root).latest
    held = Leases(root).held(LogReader(str(root)).snapshot(latest).metadata.id)
    found = [_shown(one, latest, "live") for one in held.live]
    found += [_shown(one, latest, "expired") for one in held.expired]
    return sorted(found, key=lambda one: one.reader)


def _shown(lease: Lease, latest: int, state: Literal["live", "expired"]) -> ReaderLease:
    return ReaderLease(
        lease.reader,
        lease.version,
        max(0, latest - lease.version),
        utc(lease.since_ms),
        utc(lease.until_ms),
        state,
    )
