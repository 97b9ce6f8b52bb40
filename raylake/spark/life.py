"""The life of a session as plain state: what happened, when, and what is to be done about it.

absent → starting → ready → busy ⇄ idle → given back; lost from anywhere after absent. A host has
one life: after ``given back`` and ``lost`` its process ends, and who asks next makes a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a session is in its life."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    IDLE = "idle"
    GIVEN_BACK = "given back"
    LOST = "lost"


class Effect(StrEnum):
    """What is to be done."""

    START = "start the session"
    CANCEL = "cancel what runs"
    GIVE_BACK = "give the session back"
    KILL = "end the driver's process"
    LEAVE = "end the process"


ENDED: Final = frozenset({State.GIVEN_BACK, State.LOST})
_UP: Final = frozenset({State.READY, State.BUSY, State.IDLE})
Effects = tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a life ends by itself.

    Attributes:
        idle_s: After so long without an operation.
        start_s: When it has not come up within this.
        alone_s: When an operation has had no executor for so long.
        silent_s: When the driver has not answered for so long.
    """

    idle_s: float
    start_s: float
    alone_s: float
    silent_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Life:
    """One life; each event gives the next state of it.

    Attributes:
        limits: When it ends by itself.
        since_s: When it came to this state, on the monotonic clock.
        state: Where it is.
        running: Operations that run.
        operations: Operations that were begun, all in all.
        executors: Executors that there are.
        alone_since_s: Since when there is none; None while there are.
        reason: Why it is absent or over.
    """

    limits: Limits
    since_s: float
    state: State = State.ABSENT
    running: int = 0
    operations: int = 0
    executors: int = 0
    alone_since_s: float | None = None
    reason: str = ""

    @property
    def over(self) -> bool:
        """Whether it takes no operation any more."""
        return self.state in ENDED

    def asked(self, now_s: float) -> tuple[Life, Effects]:
        """Somebody wants the session."""
        if self.state is not State.ABSENT:
            return self, ()
        return self._to(State.STARTING, now_s), (Effect.START,)

    def started(self, executors: int, now_s: float) -> tuple[Life, Effects]:
        """The session is up."""
        if self.state is not State.STARTING:
            return self, ()
        up = replace(self._to(State.READY, now_s), executors=executors)
        return up.counted(executors, now_s)

    def began(self, now_s: float) -> tuple[Life, Effects]:
        """An operation begins."""
        if self.state not in _UP:
            raise ValueError(f"no operation can begin in a session that is {self.state}")
        busy = self if self.state is State.BUSY else self._to(State.BUSY, now_s)
        # Nobody was missed while nothing ran: the time without executors begins anew.
        alone = now_s if not self.running and self.executors == 0 else self.alone_since_s
        return replace(
            busy, running=self.running + 1, operations=self.operations + 1, alone_since_s=alone
        ), ()

    def ended(self, now_s: float) -> tuple[Life, Effects]:
        """An operation is over, however it went."""
        left = max(0, self.running - 1)
        if self.state is State.BUSY and left == 0:
            return replace(self._to(State.IDLE, now_s), running=0), ()
        return replace(self, running=left), ()

    def counted(self, executors: int, now_s: float) -> tuple[Life, Effects]:
        """So many executors are there."""
        alone = None if executors else self.alone_since_s
        if not executors and alone is None:
            alone = now_s
        return replace(self, executors=executors, alone_since_s=alone), ()

    def lost(self, reason: str, now_s: float) -> tuple[Life, Effects]:
        """It did not come up, or the driver is gone, or somebody ends it."""
        if self.over:
            return self, ()
        return replace(self._to(State.LOST, now_s), reason=reason), (Effect.LEAVE,)

    def silent(self, silent_s: float, now_s: float) -> tuple[Life, Effects]:
        """The driver is there, and has not answered a question for so long."""
        if self.over or silent_s < self.limits.silent_s:
            return self, ()
        gone, effects = self.lost(f"the driver did not answer for {silent_s:.0f} s", now_s)
        return gone, (Effect.KILL, *effects)

    def passed(self, now_s: float) -> tuple[Life, Effects]:
        """Time passed."""
        here_s = now_s - self.since_s
        if self.state in (State.READY, State.IDLE) and here_s >= self.limits.idle_s:
            reason = f"no operation for {self.limits.idle_s:g} s"
            gone = replace(self._to(State.GIVEN_BACK, now_s), reason=reason)
            return gone, (Effect.GIVE_BACK, Effect.LEAVE)
        if self.state is State.ABSENT and here_s >= self.limits.idle_s:
            reason = f"nobody asked for {self.limits.idle_s:g} s"
            return replace(self._to(State.GIVEN_BACK, now_s), reason=reason), (Effect.LEAVE,)
        if self.state is State.STARTING and here_s >= self.limits.start_s:
            return self.lost(f"it did not come up within {self.limits.start_s:g} s", now_s)
        alone_s = 0.0 if self.alone_since_s is None else now_s - self.alone_since_s
        if self.state is State.BUSY and alone_s >= self.limits.alone_s:
            reason = f"no executor for {self.limits.alone_s:g} s while an operation ran"
            gone, effects = self.lost(reason, now_s)
            return gone, (Effect.CANCEL, *effects)
        return self, ()

    def _to(self, state: State, now_s: float) -> Life:
        return replace(self, state=state, since_s=now_s, reason="")
