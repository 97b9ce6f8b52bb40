"""One derived table of a pipeline file, ready to run: plain data, and what makes its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from raylake.delta.leases import DEFAULT_MAX_HOLD_S
from raylake.layers.derived import Derivation
from raylake.layers.gate import RuleGate, SideTables
from raylake.layers.ownership import DEFINITION, OWNER
from raylake.layers.refresh import Gathered
from raylake.layers.triggers import Trigger
from raylake.maintenance.after_write import AfterWrite
from raylake.tables.feeds import CHANGE_FEED
from raylake.tables.routing import EngineChoice

MAX_STEP_ROWS: Final = 1_000_000
MAX_STEP_BYTES: Final = 256 * 2**20
WIDEN_LIMIT_BYTES: Final = 2**30
SOURCE_CHANGED: Final = Trigger("source_changed")


@dataclass(frozen=True, slots=True)
class Definition:
    """A derived table of a pipeline file, ready to run.

    Attributes:
        name: ``layer.name``.
        address: Where it lies.
        pipeline: Who writes it.
        source: ``layer.name`` of its source.
        source_address: Where that lies.
        digest: Of what decides the table's rows.
        whole: Of all that the file says of it, its rules too.
        after_write: What follows a step; None: nothing.
        derivation: How its rows come to be.
        gate: Its rules.
        aside: Its quarantine and its rules' history.
        trigger: When it is brought up to date.
        feeds: A later table reads what changes in it.
        others: Further tables that it reads, ``layer.name``.
        foreign: Addresses of the sources that other processes write: bronze, and others' tables.
        sides: The folder of the tables that its derivation keeps beside it.
        max_hold_s: How long versions of its sources are kept for it when it stands still.
        properties: Delta properties that a new table gets.
        places: Addresses of the lake's tables by name.
        engine: Who writes it.
        widen_limit_bytes: A larger table is not rewritten where a column becomes wider.
        max_step_rows: A step takes no more rows of its source, where that can be cut.
        max_step_bytes: Nor more of its data files.
        idle_versions: Versions of its source without rows are passed over once they are so many;
            None: 64.
    """

    name: str
    address: str
    pipeline: str
    source: str
    source_address: str
    digest: str
    derivation: Derivation
    gate: RuleGate
    aside: SideTables | Gathered
    sides: str
    trigger: Trigger = SOURCE_CHANGED
    feeds: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    max_hold_s: float = DEFAULT_MAX_HOLD_S
    engine: EngineChoice = "auto"
    widen_limit_bytes: int = WIDEN_LIMIT_BYTES
    max_step_rows: int = MAX_STEP_ROWS
    max_step_bytes: int = MAX_STEP_BYTES
    idle_versions: int | None = None
    whole: str = ""
    after_write: AfterWrite | None = None

    @property
    def own_properties(self) -> dict[str, str]:
        """The properties that a table of this definition has."""
        found = {**self.properties, OWNER: self.pipeline, DEFINITION: self.digest}
        return found | ({CHANGE_FEED: "true"} if self.feeds else {})

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses of all tables that it follows."""
        return (self.source_address, *(self.places[name] for name in self.others))
