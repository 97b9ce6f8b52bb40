"""What an operator may order of a running pipeline: breakers, the watermark, replays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deltalake import Schema
from deltalake.exceptions import DeltaError

from raylake.clock import Clock
from raylake.delta.schema import arrow_schema
from raylake.errors import ConfigError, RayLakeError
from raylake.ingest.fleet import Fleet, OwnerControl
from raylake.ingest.orders import OrderBox
from raylake.ingest.replays import found
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
            name: ``breaker.trip``, ``breaker.reset``, ``watermark.set``, ``replay.columns`` or
                ``replay.commit``.
            arguments: Plain data.

        Raises:
            RayLakeError: Why it was not, or may not have been, carried out.
        """
        if name in ("breaker.trip", "breaker.reset"):
            return self._switch(name.removeprefix("breaker."), arguments)
        if name == "watermark.set":
            return self._set_watermark(arguments)
        if name == "replay.columns":
            return self._add_columns(arguments)
        if name == "replay.commit":
            return self._replay(arguments)
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
        table, owner = self._owner(arguments)
        value_ms = arguments.get("value_ms")
        if not isinstance(value_ms, int):
            raise ConfigError("the order lacks a table or a value in milliseconds")
        dry_run = bool(arguments.get("dry_run"))
        was_ms = owner.set_watermark(value_ms, dry_run=dry_run)
        return {"table": table, "was_ms": was_ms, "value_ms": value_ms, "dry_run": dry_run}

    def _add_columns(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that letters bring which a replay makes rows of."""
        table, owner = self._owner(arguments)
        try:
            additions = arrow_schema(Schema.from_json(str(arguments.get("schema"))))
        except (DeltaError, ValueError) as error:
            raise ConfigError(f"the order lacks columns: {error}") from error
        owner.evolve(additions)
        return {"table": table}

    def _replay(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        replay = found(self._loop.run.status_file, arguments.get("replay_id"))
        _, owner = self._owner({"table": replay.table})
        return {"replay_id": replay.replay_id, "version": owner.replay(replay)}

    def _owner(self, arguments: Mapping[str, Any]) -> tuple[str, OwnerControl]:
        """The table that an order names, and its owner.

        Raises:
            ConfigError: This run has no such table.
        """
        table = arguments.get("table")
        if not isinstance(table, str) or table not in self._loop.tables.plans:
            raise ConfigError(
                f"this run has no table {table!r}",
                hint="there are: " + ", ".join(sorted(self._loop.tables.plans)),
            )
        return table, self._loop.tables.owner(table)
