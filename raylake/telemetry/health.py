"""Whether a run lives and does its work, judged from its status document (DESIGN §9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]

TICK_LIMIT_S = 60.0
START_LIMIT_S = 300.0
STOPPING: Final = ("store", "dead_letters")


@dataclass(frozen=True, slots=True)
class Health:
    """An endpoint's answer.

    Attributes:
        ok: 200, or 503.
        body: Plain data.
    """

    ok: bool
    body: Document


def liveness(state: str, tick_age_s: float, drain_timeout_s: float) -> Health:
    """Whether the supervisor's loop goes round.

    Args:
        state: The run's.
        tick_age_s: Seconds since the loop's last turn ended.
        drain_timeout_s: The pipeline's; the last turn of a run may take that long.
    """
    limits_s = {"starting": START_LIMIT_S, "draining": TICK_LIMIT_S + drain_timeout_s}
    limit_s = limits_s.get(state, TICK_LIMIT_S)
    ok = tick_age_s <= limit_s
    said: dict[str, Any] = {"ok": ok, "state": state, "tick_age_s": round(tick_age_s, 1)}
    if not ok:
        said["why"] = [f"the supervisor's loop has not gone round within {limit_s:g} s"]
    return Health(ok, said)


def readiness(document: Document) -> Health:
    """Whether everything runs that this run needs to make progress."""
    why = reasons(document)
    return Health(not why, {"ok": not why, "state": document.get("state"), "why": why})


def reasons(document: Document) -> list[str]:
    """Why a run is not ready; empty when it is."""
    why = []
    if document.get("state") != "running":
        why.append(f"the run is {document.get('state', 'starting')}")
    why += [f"{process} is missing" for process in document.get("missing", ())]
    tables: Mapping[str, Document] = document.get("tables", {})
    consumers: Mapping[str, Document] = document.get("consumers", {})
    held: Document = document.get("held", {})
    if "broker" in held or _open_everywhere("broker", consumers):
        why.append(_because("the broker's breaker is open", "broker", held))
    blocked = {name: _blocked(name, table, consumers, held) for name, table in tables.items()}
    if blocked and all(blocked.values()):
        why += [reason for reason in blocked.values() if reason]
    stopped = document.get("stopped", {})
    for name, table in tables.items():
        partitions = table.get("partitions", {})
        if partitions and all(partition in stopped for partition in partitions):
            first = stopped[next(iter(partitions))]
            why.append(f"{name}: every partition is stopped: {first.get('message', '')}")
    return why


def _blocked(table: str, shown: Document, consumers: Mapping[str, Document], held: Document) -> str:
    """Which breaker keeps everything from a table; empty for none."""
    for dependency in STOPPING:
        name = f"{table}/{dependency}"
        of_owner = shown.get("breakers", {}).get(dependency, {})
        if name in held or _is_open(of_owner) or _open_everywhere(name, consumers):
            return _because(f"{table}: the breaker of {dependency} is open", name, held)
    return ""


def _open_everywhere(name: str, consumers: Mapping[str, Document]) -> bool:
    found = [consumer.get("breakers", {}).get(name, {}) for consumer in consumers.values()]
    return bool(found) and all(_is_open(breaker) for breaker in found)


def _is_open(breaker: Document) -> bool:
    return breaker.get("state") == "open"


def _because(what: str, name: str, held: Document) -> str:
    return f"{what}, by hand: {held[name].get('reason', '')}" if name in held else what


def missing_processes(
    consumers: Iterable[str], reported: Iterable[str], owners: Iterable[str], heard: Iterable[str]
) -> list[str]:
    """Processes of a run that are wanted and have not reported.

    Args:
        consumers: Consumers that are wanted.
        reported: Consumers that reported.
        owners: Tables whose owners are wanted.
        heard: Tables whose owners live and reported.
    """
    gone = sorted(set(consumers) - set(reported))
    return [*gone, *(f"the owner of {name}" for name in sorted(set(owners) - set(heard)))]
