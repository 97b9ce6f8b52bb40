"""What the processes of a run need to start."""

from __future__ import annotations

from dataclasses import dataclass, field

from raylake.delta.spec import TableSpec
from raylake.ingest.earlier import Snapshots
from raylake.ingest.plan import RunPlan, TablePlan
from raylake.ingest.switches import Switches


@dataclass(frozen=True, slots=True)
class OwnerSetup:
    """What a table's owner needs to start.

    Attributes:
        run: The run.
        table: The table.
        spec: The table as it is created when it is not there.
        replaces: The run of the owner that is gone and is replaced; empty for a first one (I11).
    """

    run: RunPlan
    table: TablePlan
    spec: TableSpec
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerSetup:
    """What a consumer needs to start.

    Attributes:
        run: The run.
        name: The consumer's name.
        tables: The tables that it feeds.
        breakers: Breakers that were not closed, of an earlier run or of a consumer that is gone.
        switches: Breakers that are held open by hand.
    """

    run: RunPlan
    name: str
    tables: tuple[TablePlan, ...]
    breakers: Snapshots = field(default_factory=dict)
    switches: Switches = field(default_factory=Switches)
