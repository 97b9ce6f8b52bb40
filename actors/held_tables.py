"""The actor that keeps a lake's held versions in Ray's object store, and how it is reached.

Ray lets go of an object when its owner ends. So the actor puts the objects itself: they outlive the
process that asked for them, and end with the actor.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
import ray
from ray.exceptions import ObjectLostError, RayError

from actors.calls import find, result
from raylake.client.cluster import NAMESPACE
from raylake.client.ray_rows import blocks_of
from raylake.clock import SystemClock
from raylake.errors import DependencyUnreachable
from raylake.ingest.ports import OwnerLost
from raylake.storage.access import stores_from_json, stores_of_request, used_stores
from raylake.storage.place import place
from raylake.tables.delta_rs_reads import read
from raylake.tables.held_versions import HeldKey, HeldVersion, HeldVersions, too_large
from raylake.tables.requests import Read

log = logging.getLogger("raylake.tables")

READING, ASKING = "reading", "asking"
GROUPS: Final = {READING: 8, ASKING: 8}
"""Threads, by what they are for: what reads keeps no question waiting."""
SHARE: Final = 4
"""The limit is this part of a node's object store where nobody says otherwise."""
ANSWER_S: Final = 30.0
START_S: Final = 120.0
MAKE_AGAIN: Final = 5
LOOK_AGAIN_S: Final = 0.3


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, concurrency_groups=GROUPS)
class HeldTablesActor:
    """Holds versions: objects of its own, by what they hold."""

    def __init__(self) -> None:
        self._store_bytes = _store_bytes()
        self._held = HeldVersions[list[Any]](self._store_bytes // SHARE, SystemClock())
        self._state, self._one_reads = threading.Lock(), threading.Lock()

    def hold(
        self,
        table: tuple[str, str],
        key: HeldKey,
        limit_bytes: int | None,
        stores: Mapping[str, Any],
    ) -> HeldVersion:
        """Read a version and hold it; what is held already is not read again.

        One after the other: who asks for the same rows finds them. They are read whole before
        others make room for them, so that nothing leaves for what does not fit.

        Args:
            table: Its name and its address.
            key: Which rows.
            limit_bytes: Another limit from now on; None: it stays.
            stores: How who asks reaches object stores, as references.

        Raises:
            TooLargeToHold: The rows are larger than the limit, or the limit is larger than the
                node's object store.
            TableError: The rows cannot be read.
        """
        with self._one_reads:
            self._limit(table[0], key, limit_bytes)
            with self._state:
                there = self._held.use(key)
            if there is not None:
                return there[0]
            with stores_of_request(stores_from_json(stores)):
                pieces = self._read(table, key)
            size = sum(one.nbytes for one in pieces), sum(one.num_rows for one in pieces)
            with self._state:
                self._held.make_room(table[0], key, size[0])
            objects = []
            while pieces:
                objects.append(ray.put(pieces.pop(0)))
            with self._state:
                return self._held.add(table[0], key, size, objects)

    def find(self, asked: HeldKey) -> list[Any] | None:
        """The objects that hold the rows that are asked for; None: they are not held."""
        with self._state:
            there = self._held.use(asked)
        return None if there is None else there[1]

    def release(self, table_id: str, version: int | None) -> list[HeldVersion]:
        """Let go of a table's versions, or of one."""
        with self._state:
            return self._held.release(table_id, version)

    def held(self) -> list[HeldVersion]:
        """What is held, the least recently used first."""
        with self._state:
            return self._held.listed()

    def _limit(self, table: str, key: HeldKey, limit_bytes: int | None) -> None:
        if limit_bytes is None:
            return
        if limit_bytes > self._store_bytes:
            store = f"an object store of {self._store_bytes} bytes"
            raise too_large(table, key, f"is to be held within {limit_bytes} bytes, of {store}")
        with self._state:
            self._held.limit(limit_bytes)

    def _read(self, table: tuple[str, str], key: HeldKey) -> list[pa.Table]:
        name, address = table
        rows = read(place(address), Read(columns=key.columns, version=key.version))
        pieces: list[pa.Table] = []
        size, limit = 0, self._held.limit_bytes
        for one in blocks_of(rows, rows.schema):
            pieces.append(one.combine_chunks())
            size += pieces[-1].nbytes
            if size > limit:
                takes = f"takes more than {size - 1} bytes, of which at most {limit} are held"
                raise too_large(name, key, takes)
        return pieces


class HeldTables:
    """A lake's actor, as those see it who have joined its cluster.

    Args:
        lake: The lake's address.
    """

    def __init__(self, lake: str) -> None:
        self._lake = lake
        self._name = actor_name(lake)

    def hold(self, table: tuple[str, str], key: HeldKey, limit_bytes: int | None) -> HeldVersion:
        """See :meth:`HeldTablesActor.hold`; the actor is made where there is none.

        Raises:
            DependencyUnreachable: It was lost meanwhile.
        """
        try:
            call = self._actor().hold.options(concurrency_group=READING)
            held: HeldVersion = result(call.remote(table, key, limit_bytes, used_stores()), None)
        except OwnerLost as error:
            raise DependencyUnreachable(
                f"{table[0]}: version {key.version} is not held: {error.message}",
                hint="hold it again; what else was held of this lake is gone, too",
            ) from error
        return held

    def find(self, asked: HeldKey) -> list[Any] | None:
        """See :meth:`HeldTablesActor.find`; None without the actor."""
        found: list[Any] | None = self._ask("find", asked)
        return found

    def fetch(self, asked: HeldKey) -> list[pa.Table] | None:
        """The rows that are asked for, with at least those columns; None: not held, or lost."""
        objects = self.find(asked)
        if objects is None:
            return None
        try:
            # All of them before the first is used: half a version cannot be read from its files.
            found: list[pa.Table] = ray.get(objects, timeout=ANSWER_S)
        except RayError as error:
            log.info("%s: version %d is read from files: %s", self._lake, asked.version, error)
            if isinstance(error, ObjectLostError):
                self._ask("release", asked.table_id, asked.version)
            return None
        return found

    def release(self, table_id: str, version: int | None) -> list[HeldVersion]:
        """See :meth:`HeldTablesActor.release`; nothing without the actor."""
        return self._ask("release", table_id, version) or []

    def held(self) -> list[HeldVersion]:
        """See :meth:`HeldTablesActor.held`; nothing without the actor."""
        return self._ask("held") or []

    def end(self) -> None:
        """End the actor, and with it what it holds."""
        try:
            ray.kill(find(self._name))
        except (OwnerLost, RayError):
            return

    def _actor(self) -> Any:
        """The actor, made where there is none; one that is about to end is followed by the next.

        Raises:
            OwnerLost: Each of them ended.
        """
        actor_class: Any = HeldTablesActor
        options = {"name": self._name, "namespace": NAMESPACE, "get_if_exists": True}
        lost: Exception | None = None
        for _ in range(MAKE_AGAIN):
            try:
                actor = actor_class.options(lifetime="detached", **options).remote()
                result(actor.held.options(concurrency_group=ASKING).remote(), START_S)
            except (OwnerLost, RayError) as error:
                lost = error
                time.sleep(LOOK_AGAIN_S)
            else:
                return actor
        raise OwnerLost(f"no process that holds could be made: {lost}") from lost

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            call = getattr(find(self._name), method).options(concurrency_group=ASKING)
            return result(call.remote(*arguments), ANSWER_S)
        except (OwnerLost, RayError) as error:
            log.debug("%s: nothing is held: %s", self._lake, error)
            return None


def actor_name(lake: str) -> str:
    """The name of the actor that holds versions of a lake's tables."""
    return f"raylake/held/{hashlib.sha256(lake.encode()).hexdigest()[:16]}"


def on_cluster(lake: str) -> HeldTables:
    """What is held of a lake, on the cluster that this process has joined."""
    return HeldTables(lake)


def _store_bytes() -> int:
    """The size of this node's object store."""
    here = ray.get_runtime_context().get_node_id()
    nodes = [one for one in ray.nodes() if one["NodeID"] == here]
    return int(nodes[0]["Resources"].get("object_store_memory", 0)) if nodes else 0
