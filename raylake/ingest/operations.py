"""What an operator may order of a running pipeline: breakers by hand, the watermark's repair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raylake.clock import Clock
from raylake.errors import ConfigError, RayLakeError
from raylake.ingest.fleet import Fleet
from raylake.ingest.orders import OrderBox
from raylake.ingest.supervisor import SupervisorLoop
from raylake.ingest.switches import Selection, Switches, breaker_names

MAX_REASON_CHARACTERS = 300


class Operations:
    """Carries out the orders of one run, in the thread of its supervisor's loop.

    Args:
        loop: The supervisor's loop.
        fleet: The run's processes.
        box: Where orders arrive.
        clock: Time.
        publish: Writes the status document; it keeps what is held, over restarts.
    """

    def __init__(
        self,
        loop: SupervisorLoop,
        fleet: Fleet,
        box: OrderBox,
        clock: Clock,
        publish: Callable[[], None],
    ) -> None:
        self.held: dict[str, Mapping[str, Any]] = dict(loop.run.earlier.held)
        self._loop = loop
        self._fleet = fleet
        self._box = box
        self._clock = clock
        self._publish = publish

    def step(self) -> None:
        """Carry out what was ordered since the last call."""
        for order in self._box.take():
            try:
                self._box.answer(order, self.perform(order.name, order.arguments))
            except RayLakeError as error:
                self._loop.troubles.note(error)
                self._box.answer(order, error)
        for lost in self._box.unfinished():
            self._loop.troubles.note(lost)

    def perform(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one order.

        Args:
            name: ``breaker.trip``, ``breaker.reset`` or ``watermark.set``.
            arguments: Plain data.

        Raises:
            RayLakeError: Why it was not, or may not have been, carried out.
        """
        if name in ("breaker.trip", "breaker.reset"):
            return self._switch(name.removeprefix("breaker."), arguments)
        if name == "watermark.set":
            return self._set_watermark(arguments)
        raise ConfigError(f"this run knows no order {name!r}", hint="is it of an older release?")

    def _switch(self, action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        tables = {name: plan.sources for name, plan in self._loop.tables.plans.items()}
        known = {*breaker_names(tables), *(self.held if action == "reset" else ())}
        names = Selection.of(arguments).of_names(known)
        if action == "trip":
            reason = str(arguments.get("reason", ""))[:MAX_REASON_CHARACTERS]
            one = {"reason": reason, "since": self._clock.now()}
            self.held |= dict.fromkeys(names, one)
            switches = Switches.of(self.held)
        else:
            self.held = {name: one for name, one in self.held.items() if name not in names}
            switches = Switches.of(self.held, names)
        # First kept, then done: a supervisor that dies in between leaves nothing half decided.
        self._publish()
        self._fleet.switch(switches)
        return {"breakers": names}

    def _set_watermark(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        table, value_ms = arguments.get("table"), arguments.get("value_ms")
        if not isinstance(table, str) or not isinstance(value_ms, int):
            raise ConfigError("the order lacks a table or a value in milliseconds")
        if table not in self._loop.tables.plans:
            raise ConfigError(
                f"this run has no table {table!r}",
                hint="there are: " + ", ".join(sorted(self._loop.tables.plans)),
            )
        dry_run = bool(arguments.get("dry_run"))
        was_ms = self._loop.tables.owner(table).set_watermark(value_ms, dry_run=dry_run)
        return {"table": table, "was_ms": was_ms, "value_ms": value_ms, "dry_run": dry_run}
