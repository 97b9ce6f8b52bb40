"""Calls between actors: our errors arrive as they were raised, a lost actor as ``OwnerLost``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayTaskError

from raylake.client.cluster import NAMESPACE
from raylake.delta.pending import Withdrawn
from raylake.errors import DependencyUnreachable, RayLakeError, Terminal
from raylake.ingest.ports import Answer, OwnerLost, TableView
from raylake.ingest.unit import DataFile, PartitionState, SourcePartition, Unit

CALL_TIMEOUT_S = 60.0

SILENT_ENV = "RAYLAKE_SILENT_S"


def owner_name(table_id: str) -> str:
    """The name of a table's owner actor."""
    return f"raylake/owner/{table_id}"


def queue_name(pipeline: str) -> str:
    """The name of a pipeline's dead-letter queue actor."""
    return f"raylake/dead_letters/{pipeline}"


def supervisor_name(pipeline: str) -> str:
    """The name of a pipeline's supervisor actor."""
    return f"raylake/{pipeline}"


def transformer_name(pipeline: str) -> str:
    """The name of the actor that brings a pipeline's derived tables up to date."""
    return f"raylake/{pipeline}/transformer"


def maintainer_name(pipeline: str) -> str:
    """The name of the actor that looks after a pipeline's tables."""
    return f"raylake/{pipeline}/maintainer"


def result(ref: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
    """The result of a call.

    Raises:
        RayLakeError: What the actor raised, with its own class; ``Terminal`` for anything else.
        OwnerLost: The actor died, or did not answer in time; the call may have run.
    """
    try:
        return ray.get(ref, timeout=timeout_s)
    except RayTaskError as error:
        if isinstance(error.cause, RayLakeError):
            raise error.cause from None
        raise Terminal(f"a call to an actor failed: {error.cause!r}") from error
    except (RayActorError, OutOfMemoryError) as error:
        # The second is no kind of the first: Ray's memory monitor killed the actor in the call.
        raise OwnerLost(f"an actor is gone: {_told(error)}") from error
    except GetTimeoutError as error:
        raise OwnerLost(f"an actor did not answer within {timeout_s} s") from error


def find(name: str) -> Any:
    """The actor with this name.

    Raises:
        OwnerLost: There is none (yet).
    """
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        raise OwnerLost(f"no actor is named {name}") from error


def detached(actor_class: Any, name: str, *arguments: Any) -> Any:
    """The detached actor with this name: the one that is there, or a new one."""
    return actor_class.options(
        name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(*arguments)


class RayHandover:
    """A unit on its way to an owner actor."""

    def __init__(self, ref: Any, owner: RayOwner) -> None:
        self._ref = ref
        self._owner = owner

    def poll(self) -> Answer | None:
        """The answer, or None while there is none; raises as :func:`result`."""
        ready, _ = ray.wait([self._ref], timeout=0)
        if not ready:
            return None
        try:
            answer: Answer = result(self._ref)
        except OwnerLost:
            self._owner.forget()
            raise
        return answer


class RayOwner:
    """A table's owner actor, found again by its name when it was replaced."""

    def __init__(self, table_id: str) -> None:
        self._name = owner_name(table_id)
        self._actor: Any = None

    def forget(self) -> None:
        """Look the actor up again at the next call."""
        self._actor = None

    def view(self) -> TableView:
        """The table's id and schema."""
        view: TableView = self._call("view")
        return view

    def ends(self, sources: Sequence[SourcePartition]) -> Mapping[SourcePartition, PartitionState]:
        """Where the table stands in those of the partitions that are admitted."""
        ends: Mapping[SourcePartition, PartitionState] = self._call("ends", list(sources))
        return ends

    def evolve(self, additions: pa.Schema) -> TableView:
        """Add columns."""
        view: TableView = self._call("evolve", additions)
        return view

    def submit(self, unit: Unit) -> RayHandover:
        """Hand a unit over; returns at once."""
        return RayHandover(self.actor().submit.remote(unit), self)

    def actor(self) -> Any:
        """The actor's handle."""
        if self._actor is None:
            self._actor = find(self._name)
        return self._actor

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return result(getattr(self.actor(), method).remote(*arguments))
        except OwnerLost:
            self.forget()
            raise


class RayDeadLetters:
    """The dead-letter queue actor as an owner sees it."""

    def __init__(self, pipeline: str) -> None:
        self._name = queue_name(pipeline)
        self._asked: Any = None
        self._ready = False

    def ready(self) -> bool:
        """Whether it was started and has answered; never waits. What is lost later is still so.

        The supervisor starts it when an owner's report says that it needs one.
        """
        if not self._ready:
            with suppress(OwnerLost):
                self._asked = self._asked or find(self._name).ping.remote(0.0)
                self._ready = bool(ray.wait([self._asked], timeout=0)[0])
        return self._ready

    def add(self, table_id: str, version: int, files: Sequence[DataFile]) -> None:
        """Add the files that a data commit named; repeating it changes nothing."""
        self._call("add", table_id, version, list(files))

    def withdraw(self, table_id: str, version: int, withdrawal: Withdrawn) -> None:
        """Take out what a rewind took back, or replace what a replay looked at; idempotent."""
        self._call("withdraw", table_id, version, withdrawal)

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return result(getattr(find(self._name), method).remote(*arguments))
        except OwnerLost as error:
            raise DependencyUnreachable(f"the dead-letter queue: {error.message}") from error


def _told(error: Exception) -> str:
    """What Ray says in its first line; the error itself where the actor could not be made."""
    lines = str(error).strip().splitlines()
    return lines[-1] if "creation task" in lines[0] else lines[0]
