"""Orders to a run from a second terminal, and what is known of its breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylake.client.runs import run_status
from raylake.clock import Clock
from raylake.errors import Terminal
from raylake.ingest.orders import OrderBox, order_folder
from raylake.storage.place import Place

ORDER_TIMEOUT_S = 30.0
_WORST = {"closed": 0, "half_open": 1, "open": 2}


def give_order(
    status_file: Place, name: str, arguments: Mapping[str, Any], clock: Clock, timeout_s: float
) -> dict[str, Any]:
    """Let the run's supervisor do something; returns what it says.

    Raises:
        ConfigError: The pipeline has not run with this lake, or the order fits nothing there.
        Terminal: No run lives here, or it did not answer in time.
        RayLakeError: Why the supervisor could not do it.
    """
    found = run_status(status_file, clock)
    if found.life in ("ended", "dead"):
        raise Terminal(
            f"pipeline {found.document.get('pipeline')!r} does not run: run "
            f"{found.document.get('run_id')} is {found.document.get('state')}",
            hint="`raylake run FILE` starts it",
        )
    return OrderBox(order_folder(status_file), clock).ask(name, arguments, timeout_s)


def breakers_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The breakers that a status document tells of, sorted by name; the worst of each name.

    Consumers tell of those that are not closed; of the broker and of a table's stores there is
    always an entry.
    """
    found: dict[str, dict[str, Any]] = {"broker": _closed("broker")}
    told: list[tuple[str, Mapping[str, Any]]] = []
    for table, shown in document.get("tables", {}).items():
        for dependency, breaker in shown.get("breakers", {}).items():
            told.append((f"{table}/{dependency}", breaker))
    for consumer in document.get("consumers", {}).values():
        told += consumer.get("breakers", {}).items()
    for name, breaker in told:
        known = found.setdefault(name, _closed(name))
        if _WORST[breaker["state"]] >= _WORST[known["state"]]:
            found[name] = {**known, **breaker, "name": name}
    for name, held in document.get("held", {}).items():
        known = {**found.get(name, _closed(name)), "retry_at": None}
        reason = f"by hand: {held.get('reason', '')}"
        since = held.get("since")
        found[name] = {**known, "state": "open", "reason": reason, "since": since, "by_hand": True}
    return [found[name] for name in sorted(found)]


def _closed(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "state": "closed",
        "reason": "",
        "by_hand": False,
        "since": None,
        "retry_at": None,
    }
