"""Rewrites of live files as commits of the owner of a table that a pipeline feeds (DESIGN §6)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deltalake import CommitProperties

from raylake import faults
from raylake.delta.attempts import Draft
from raylake.delta.owner_core import OwnerCore, add_action
from raylake.delta.owner_moves import (
    lift_append_only_once,
    log_table_of,
    restore_append_only_once,
)
from raylake.delta.owner_steps import refresh
from raylake.delta.reading import readable
from raylake.delta.rewritten import Rewritten, moved_to_dropped, refuse_other_rows
from raylake.delta.table_state import TableState
from raylake.errors import RayLakeError

log = logging.getLogger(__name__)

_KEPT: Final = 256


@dataclass(slots=True)
class _Try:
    """What is known of the rewrite of one request.

    Attributes:
        version: The version that it made; None while it has not landed.
        begun: Whether a commit of it was begun, and may land late.
    """

    version: int | None = None
    begun: bool = False


class OwnerRewrites:
    """A :class:`~raylake.delta.owner_turns.RewriteLog` over the owner's handle.

    Not thread-safe: called between the owner's other commits. After ``Fenced`` or ``LogDamaged`` it
    must not be used again.

    Args:
        core: The table's handle, with this owner's epoch in the log.
        state: What the owner knows of the table.
        told: Called once with each rewrite that has landed.
    """

    def __init__(
        self,
        core: OwnerCore,
        state: TableState,
        told: Callable[[Rewritten], None] = lambda _one: None,
    ) -> None:
        self._core = core
        self._state = state
        self._told = told
        self._tries: dict[str, _Try] = {}
        # Whether a lift of append-only was begun and may land late.
        self._lift_open = False

    @property
    def number(self) -> int:
        """The owner number of this owner's newest commit."""
        return self._core.number

    @property
    def version(self) -> int:
        """The newest version that was read or written."""
        return self._core.version

    def refresh(self) -> None:
        """See :meth:`raylake.delta.owner_turns.RewriteLog.refresh`."""
        with readable(self._core.root):
            refresh(self._core, self._state)

    def rewrite(self, one: Rewritten) -> int:
        """See :meth:`raylake.delta.owner_turns.RewriteLog.rewrite`."""
        tried = self._begun(one.request)
        try:
            with readable(self._core.root):
                if one.data_change:
                    self._commit_lifted(one, tried)
                else:
                    self._commit(one, tried)
        except RayLakeError:
            if tried.version is None:
                raise
            # It is in the log: what failed then is done by the next commit.
            log.exception("%s: version %d is in the log", self._core.root, tried.version)
        if tried.version is None:
            raise RuntimeError("a rewrite ended without a version and without an error")
        return tried.version

    def _commit(self, one: Rewritten, tried: _Try) -> None:
        self._core.until_landed(lambda: self._once(one, tried))
        self._core.sync()

    def _commit_lifted(self, one: Rewritten, tried: _Try) -> None:
        """Commit what takes or changes rows; the table is append-only again afterwards."""
        self._checked(one, tried)
        try:
            self._lift_open = True
            self._core.until_landed(lambda: lift_append_only_once(self._core))
            self._lift_open = False
            self._commit(one, tried)
        finally:
            self._append_only_again()

    def _checked(self, one: Rewritten, tried: _Try) -> None:
        # What an earlier try left open is settled by this.
        refresh(self._core, self._state)
        if tried.version is None:
            refuse_other_rows(self._core.root, self._core.table, one)

    def settle(self, request: str) -> int | None:
        """See :meth:`raylake.delta.owner_turns.RewriteLog.settle`."""
        tried = self._tries.get(request)
        if tried is not None and tried.version is None and tried.begun:
            with readable(self._core.root):
                self._core.until_landed(lambda: self._close_once(request, tried))
                self._core.sync()
        if self._lift_open:
            with readable(self._core.root):
                self._restored()
        return None if tried is None else tried.version

    def _begun(self, request: str) -> _Try:
        while len(self._tries) >= _KEPT:
            self._tries.pop(next(iter(self._tries)))
        return self._tries.setdefault(request, _Try())

    def _once(self, one: Rewritten, tried: _Try) -> None:
        core, state = self._core, self._state
        self._checked(one, tried)
        if tried.version is not None:
            return
        table = log_table_of(core)
        after, values, taken = moved_to_dropped(core.root, one, state.states, state.pipelines)
        now_s = core.clock.now()
        removed = [f.remove_action(now_s, data_change=one.data_change) for f in one.removed]
        added = [add_action(f, core.clock, data_change=one.data_change) for f in one.added]
        told = {
            "operationParameters": dict(one.parameters),
            # Spark reads these as texts.
            "operationMetrics": {name: str(count) for name, count in one.metrics.items()},
        }

        def commit(properties: CommitProperties) -> None:
            table.rewrite(removed, added, one.operation, properties, told)

        def landed(version: int) -> None:
            state.states.update(after)
            tried.version = version
            self._told(one)

        extra = {"read_version": one.read_version, "taken": taken}
        faults.reach("rewrite.before_commit", table=str(core.root))
        tried.begun = True
        core.evolve_with(commit, Draft("rewrite", values, extra, batch=one.request), landed)

    def _close_once(self, request: str, tried: _Try) -> None:
        refresh(self._core, self._state)
        if tried.version is not None:
            return

        def closed(_version: int) -> None:
            tried.begun = False

        # Once this has its version, a put that a store answers late cannot have it any more.
        self._core.write(Draft("slot_closed", extra={"request": request}), closed)

    def _append_only_again(self) -> None:
        with contextlib.suppress(RayLakeError), readable(self._core.root):
            self._restored()
            return
        log.warning("%s is not append-only until its next rewrite or owner", self._core.root)

    def _restored(self) -> None:
        core, lift_open = self._core, self._lift_open
        core.until_landed(lambda: restore_append_only_once(core, lift_open=lift_open))
        self._lift_open = False
        core.sync()
