"""Whether a run's tables are looked after: one word and why, from both status documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from raylake.client.runs import life_of, status_document
from raylake.errors import RayLakeError
from raylake.storage.place import Place

State = Literal["off", "not needed yet", "running", "gives way", "failed", "ended"]


@dataclass(frozen=True, slots=True)
class UpkeepStatus:
    """Whether tables are looked after.

    Attributes:
        state: ``off``; ``not needed yet``: nothing was due so far; ``running``; ``gives way``: work
            waits; ``failed``: for the moment nobody does; ``ended`` with the run.
        why: More words; empty where there are none.
    """

    state: State
    why: str = ""

    @property
    def line(self) -> str:
        """Both in a line."""
        return self.state + (f": {self.why}" if self.why else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def upkeep_status(path: Place, document: Mapping[str, Any]) -> UpkeepStatus:
    """How it stands with the upkeep of a run's tables.

    Args:
        path: The run's status document; that of the upkeep lies beside it.
        document: What it says.
    """
    try:
        said = status_document(path.parent / path.name.replace(".json", ".maintain.json"))
    except (RayLakeError, OSError):
        said = {}
    return judged(document, said)


def judged(document: Mapping[str, Any], said: Mapping[str, Any]) -> UpkeepStatus:
    """How it stands by what the two documents say.

    Args:
        document: The run's.
        said: The upkeep's; empty: there is none.
    """
    over = life_of(document) in ("ended", "dead")
    if said.get("run_id") != document.get("run_id"):
        if said.get("state") == "running" and life_of(said) == "alive":
            return UpkeepStatus("running", f"by run {said.get('run_id')}")
        if not document.get("tends"):
            return UpkeepStatus("off")
        return UpkeepStatus("ended" if over else "not needed yet")
    if said.get("state") == "failed":
        return UpkeepStatus("failed", str((said.get("error") or {}).get("message", "")))
    if over or said.get("state") != "running":
        return UpkeepStatus("ended")
    if said.get("waiting"):
        return UpkeepStatus("gives way", str(said["waiting"]))
    tables: Mapping[str, Any] = said.get("tables") or {}
    due = [(name, ", ".join(one.get("due") or ())) for name, one in tables.items()]
    return UpkeepStatus("running", "; ".join(f"{name}: {why}" for name, why in due if why))
