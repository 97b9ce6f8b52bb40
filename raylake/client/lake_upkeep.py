"""What a table's methods ask for its upkeep: pins, vacuum, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from raylake.client.lake_writes import TableWrites
from raylake.client.shown import Listing
from raylake.clock import Clock, SystemClock
from raylake.config.addresses import check_name
from raylake.config.findings import Invalid
from raylake.delta.log_reader import LogReader
from raylake.delta.version_pins import Pins
from raylake.storage.place import Place
from raylake.tables.errors import BadRequest
from raylake.tables.results import OperationResult
from raylake.tables.times import instant_ms, utc
from raylake.tables.upkeep_requests import Checkpoint, Vacuum
from raylake.tables.versions import Versions

PIN_COLUMNS: Final = ("name", "version", "until", "made", "state")


@dataclass(frozen=True, slots=True)
class PinnedVersion:
    """A pin on a table.

    Attributes:
        name: What it is known by.
        version: The version that stays.
        until: How long.
        made: When it was made.
        state: ``live``, or ``ended``: it keeps nothing any more.
    """

    name: str
    version: int
    until: datetime
    made: datetime
    state: Literal["live", "ended"]


def pin_version(
    root: Place, until: datetime | str, version: int | None = None, name: str | None = None
) -> PinnedVersion:
    """Keep a version of a table; see :meth:`TableUpkeep.pin`."""
    clock = SystemClock()
    versions = Versions(root)
    at = versions.resolve(version, None)
    reader = LogReader(str(root))
    then, now = (
        set(reader.snapshot(one).files.column("path").to_pylist()) for one in (at, versions.latest)
    )
    versions.require_files(then - now, at)
    until_ms = instant_ms(until, f"{root}: until")
    if until_ms <= clock.now() * 1000:
        raise BadRequest(
            f"{root}: until: {utc(until_ms).isoformat()} is over", hint="give a time to come"
        )
    try:
        called = check_name(name or f"v{at}", "a pin's name")
    except Invalid as error:
        found = error.findings[0]
        raise BadRequest(f"{root}: {found.message}", hint=found.hint) from None
    made = Pins(root, clock).pin(called, reader.snapshot(at).metadata.id, at, until_ms)
    return PinnedVersion(called, at, utc(until_ms), utc(made.made_ms), "live")


def pins_on(root: Place, clock: Clock | None = None) -> list[PinnedVersion]:
    """The pins on a table, by name.

    Raises:
        TableMissing: There is no table.
        LeaseUnread: A pin's document cannot be read.
    """
    table_id = LogReader(str(root)).snapshot(Versions(root).latest).metadata.id
    pins = Pins(root, clock)
    live = {one.name for one in pins.live(table_id)}
    return [
        PinnedVersion(
            one.name,
            one.version,
            utc(one.until_ms),
            utc(one.made_ms),
            "live" if one.name in live else "ended",
        )
        for one in pins.all()
        if one.table_id == table_id
    ]


class TableUpkeep(TableWrites):
    """A table, and what keeps it readable and small."""

    def pin(
        self, until: datetime | str, *, version: int | None = None, name: str | None = None
    ) -> PinnedVersion:
        """Keep a version readable until a time, whatever vacuum and log clean-up would take.

        Args:
            until: How long, with a zone; text is ISO 8601.
            version: The version; the newest by default.
            name: What the pin is known by; ``v`` and the version by default. A pin of the same name
                is replaced.

        Raises:
            BadRequest: The time is over, or the name is none.
            TimeWithoutZone: The time has no zone.
            VersionUnknown, VersionGone: There is no such version, or it cannot be read any more.
            Refused, DependencyUnreachable: The pin cannot be written.
        """
        return pin_version(self._source.root, until, version, name)

    def unpin(self, name: str) -> bool:
        """Keep a version no longer; false where there is no such pin."""
        return Pins(self._source.root).unpin(name)

    def pins(self) -> Listing[PinnedVersion]:
        """The versions that are kept, and how long.

        Raises:
            TableMissing: There is no such table.
            LeaseUnread: A pin's document cannot be read.
        """
        return Listing(f"pins on {self.name}", pins_on(self._source.root), PIN_COLUMNS)

    def vacuum(
        self,
        retention_hours: float | None = None,
        *,
        dry_run: bool = False,
        orphans: bool = False,
        force: bool = False,
        break_holds: bool = False,
    ) -> OperationResult:
        """Delete files that no version within the retention, no reader and no pin needs.

        Args:
            retention_hours: As :class:`~raylake.tables.upkeep_requests.Vacuum` has it.
            dry_run: Delete nothing; say what would be, and which versions could not be read then.
            orphans: Also files that were never committed, once they are older than the retention.
            force: Lets the retention be below 168 hours.
            break_holds: Also what readers and pins hold; the result's note names them.
        """
        return self.run(Vacuum(retention_hours, dry_run, orphans, (), force, break_holds))

    def repair(self) -> OperationResult:
        """Put damaged checkpoints aside, where the log is whole without them, and write a new one.

        Raises:
            LogDamaged: The log does not do without a damaged one; nothing was moved.
            OwnerOnly: A pipeline feeds the table.
        """
        return self.run(Checkpoint(repair=True))
