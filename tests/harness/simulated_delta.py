"""A Delta log in memory, as delta-rs treats it, and owners and consumers that crash on a schedule.

The owners run the product's own code (`OwnedTable`, `OwnerCore`, the ledger); only the handle and
the log files are simulated. The account at the end knows nothing of the product: it reads the
simulated log.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa
from deltalake import Schema
from deltalake.exceptions import CommitFailedError

from raylake import faults
from raylake.clock import ManualClock
from raylake.delta import log_files, opening, owner_steps
from raylake.delta.identity import TAKE_OVER, OwnerIdentity
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec
from raylake.errors import Fenced, LogDamaged, OutcomeUnknown, Retryable
from raylake.ingest.unit import (
    Counts,
    DataFile,
    OffsetRange,
    SourcePartition,
    Unit,
    UnitOutcome,
)

SCHEMA = pa.schema([("v", pa.string())])
ROOT = Path("/simulated/lake/bronze/orders")
PIPELINE = "orders"


class Crash(BaseException):
    """The process is gone; nothing of it runs on."""


@dataclass
class Store:
    """The log: one dict of actions per version, and what happens at the next writes."""

    versions: list[list[dict[str, Any]]] = field(default_factory=list)
    table_id: str = "table-1"
    faults: list[str] = field(default_factory=list)
    before_write: list[Callable[[], None]] = field(default_factory=list)
    fired: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    _txns: list[dict[str, int]] = field(default_factory=list)

    def txns(self, upto: int) -> Mapping[str, int]:
        """The txns of a version; kept, since each version is asked for many times."""
        while len(self._txns) <= upto:
            known = dict(self._txns[-1]) if self._txns else {}
            for action in self.versions[len(self._txns)]:
                if "txn" in action:
                    known[action["txn"]["appId"]] = action["txn"]["version"]
            self._txns.append(known)
        return self._txns[upto]

    def count(self, what: str) -> None:
        self.fired[what] = self.fired.get(what, 0) + 1


_stores: dict[Path, Store] = {}


class Handle:
    """What an owner uses of a DeltaTable, with delta-rs's behaviour as DESIGN §3 measured it."""

    def __init__(self, root: Path) -> None:
        self.store = _stores[root]
        self._root = root
        self._version = 0
        self._txns: Mapping[str, int] = {}
        self.update_incremental()

    def version(self) -> int:
        return self._version

    def update_incremental(self) -> None:
        self._version = len(self.store.versions) - 1
        self._txns = self.store.txns(self._version)

    def transaction_version(self, app_id: str) -> int | None:
        return self._txns.get(app_id)

    def metadata(self) -> Any:
        return SimpleNamespace(id=self.store.table_id, partition_columns=[], configuration={})

    def schema(self) -> Schema:
        return _DELTA_SCHEMA

    def create_write_transaction(
        self,
        actions: list[Any],
        mode: str,
        schema: Any,
        *,
        partition_by: list[str],
        commit_properties: Any,
        post_commithook_properties: Any,
    ) -> None:
        store = self.store
        fault = store.faults.pop() if store.faults else ""
        if fault:
            store.count(fault)
        if fault == "crash before":
            raise Crash
        if fault == "error before":
            raise OSError("no space left on device")
        document: list[dict[str, Any]] = [
            {"commitInfo": {"operation": "WRITE", **commit_properties.custom_metadata}}
        ]
        mine = commit_properties.app_transactions
        document += [{"txn": {"appId": t.app_id, "version": t.version}} for t in mine]
        document += [{"add": {"path": a.path, "dataChange": True}} for a in actions]
        self._place(document, {t.app_id for t in mine}, commit_properties.max_commit_retries)
        if fault == "crash after":
            raise Crash
        if fault == "answer lost":
            raise Exception("External error: the post-commit hook failed")
        if fault == "answer lost, log unreadable":
            store.unreadable = 1
            raise Exception("External error: the connection was closed")

    def _place(self, document: list[dict[str, Any]], apps: set[str], retries: int | None) -> None:
        between = self.store.versions[self._version + 1 :]
        if between and retries == 0:
            raise CommitFailedError("Failed to commit transaction: 0")
        for actions in between:
            if any(a["txn"]["appId"] in apps for a in actions if "txn" in a):
                raise CommitFailedError("Concurrent transaction failed")
        self.store.versions.append(document)


_DELTA_SCHEMA = Schema.from_arrow(SCHEMA)


def _read_commit(root: Path, version: int) -> list[dict[str, Any]] | None:
    store = _stores[root]
    if store.unreadable:
        store.unreadable -= 1
        raise OSError("input/output error")
    return store.versions[version] if version < len(store.versions) else None


def _mark(path: Path) -> object | None:
    store = _stores[path.parents[1]]
    version = int(path.stem)
    return id(store.versions[version]) if version < len(store.versions) else None


def _reach(point: str, **_in_flight: Any) -> None:
    """Between the check on the handle and the write, whatever is planted happens."""
    if point == "owner.after_check":
        store = _stores[ROOT]
        hooks, store.before_write = store.before_write, []
        for hook in hooks:
            hook()


@contextmanager
def simulated(store: Store) -> Iterator[Store]:
    """Owners attached inside work on ``store``."""
    _stores[ROOT] = store
    if not store.versions:
        store.versions.append([{"txn": {"appId": "raylake/owner", "version": 0}}])
    replaced = {
        (log_files, "read_commit"): _read_commit,
        (log_files, "mark"): _mark,
        (log_files, "commit_versions"): lambda root: list(range(len(_stores[root].versions))),
        (log_files, "checkpoint_versions"): lambda root: [],
        (log_files, "sync_commit"): lambda root, version: None,
        (faults, "reach"): _reach,
        (opening, "probe_store"): lambda folder: None,
        (opening, "open_or_create"): lambda spec, identity, clock: Handle(spec.root),
        (owner_steps, "check_unit"): lambda *_arguments: "",
    }
    with ExitStack() as stack:
        for (module, name), value in replaced.items():
            stack.enter_context(mock.patch.object(module, name, value))
        yield store
    del _stores[ROOT]


def source(partition: int) -> SourcePartition:
    return SourcePartition("orders", "topic-id-1", partition)


def attach(run: str, clock: ManualClock) -> OwnedTable:
    """A new owner, taking over whoever was there."""
    identity = OwnerIdentity(PIPELINE, run, "host", 1, 0.0)
    spec = TableSpec(str(ROOT), SCHEMA)
    return OwnedTable.attach(spec, identity, clock=clock, durability="none", claim=TAKE_OVER)


def unit_of(owner: OwnedTable, name: str, ranges: Mapping[int, tuple[int, int]]) -> Unit:
    """A unit whose one file is named after the offsets in it."""
    covered = tuple(
        OffsetRange(source(p), start, end, Counts(rows=end - start))
        for p, (start, end) in sorted(ranges.items())
    )
    path = "+".join(f"{r.source.partition}:{r.start}:{r.end}" for r in covered)
    rows = sum(r.end - r.start for r in covered)
    file = DataFile(path, 1, rows, {}, f'{{"numRecords":{rows}}}')
    return Unit(PIPELINE, name, 1, owner.fingerprint, covered, (file,) if rows else ())


def audit(store: Store, partitions: int) -> dict[int, int]:
    """The account of the log, by its files alone; returns each partition's end.

    Raises:
        AssertionError: An offset is twice in the table or missing, a txn disagrees with the
            files, or a commit of an older epoch follows a newer one.
    """
    ends = dict.fromkeys(range(partitions), 0)
    last = -1
    for version, actions in enumerate(store.versions):
        numbers = [a["txn"]["version"] for a in actions if a.get("txn", {}).get("appId") == OWNER]
        for number in numbers:
            assert number > last, f"version {version}: owner number {number} after {last}"
            last = number
        for action in actions:
            if "add" not in action:
                continue
            for part in action["add"]["path"].split("+"):
                p, start, end = (int(x) for x in part.split(":"))
                assert start == ends[p], f"version {version}: [{start}, {end}) at end {ends[p]}"
                ends[p] = end
        txns = store.txns(version)
        for p, end in ends.items():
            prefix = f"raylake/{PIPELINE}/orders/topic-id-1/{p}/"
            assert txns.get(prefix + "next", 0) == end, f"version {version}: next of {p}"
            assert txns.get(prefix + "rows", 0) == end, f"version {version}: rows of {p}"
    return ends


OWNER = "raylake/owner"
FAULTS = (
    "crash before",
    "crash after",
    "error before",
    "answer lost",
    "answer lost, log unreadable",
)


class Consumer:
    """Reads on from what the owner told it, and hands units over until they are answered."""

    def __init__(self, name: str, partitions: tuple[int, ...]) -> None:
        self.name = name
        self.partitions = partitions
        self.positions: dict[int, int] = {}
        self.waiting: Unit | None = None

    def restart(self) -> None:
        """A new process: all it knows is what it asks the owner."""
        self.positions = {}
        self.waiting = None

    def seek(self, owner: OwnedTable) -> None:
        states = owner.ends([source(p) for p in self.partitions])
        self.positions = {s.partition: state.next for s, state in states.items()}

    def make(self, owner: OwnedTable, rng: random.Random) -> Unit:
        if self.waiting is None:
            ranges = {
                p: (self.positions[p], self.positions[p] + rng.randint(0, 4))
                for p in self.partitions
                if rng.random() < 0.8
            }
            self.waiting = unit_of(owner, self.name, ranges)
        return self.waiting


class World:
    """Owners, consumers and zombies around one store; each step is drawn from a random source."""

    def __init__(self, store: Store, rng: random.Random, partitions: int = 3) -> None:
        self.store = store
        self.rng = rng
        self.partitions = partitions
        self.clock = ManualClock()
        self.runs = 0
        self.group: dict[int, int] = {}
        self.owner: OwnedTable | None = None
        self.zombies: list[OwnedTable] = []
        # The second and third consumer believe that they own the same partitions (I7 broken).
        everything = tuple(range(partitions))
        self.consumers = [Consumer("a", everything[:1]), Consumer("b", everything[1:])]
        self.consumers.append(Consumer("c", everything[1:]))
        self.committed = 0

    def step(self) -> None:
        """One thing happens."""
        action = self.rng.choices(
            [
                self.commit,
                self.plant,
                self.freeze_in_write,
                self.replace,
                self.zombie_commits,
                self.restart_consumer,
                self.lose_hand_over,
            ],
            weights=[60, 14, 6, 5, 10, 5, 5],
        )[0]
        action()

    def plant(self) -> None:
        """The next write meets a fault."""
        self.store.faults = [self.rng.choice(FAULTS)]

    def restart_consumer(self) -> None:
        self.rng.choice(self.consumers).restart()

    def lose_hand_over(self) -> None:
        """A unit is lost on its way to the owner, and its consumer reads on: a gap."""
        consumer = self.rng.choice(self.consumers)
        consumer.waiting = None
        consumer.positions = {p: at + 1 for p, at in consumer.positions.items()}
        self.store.count("hand-over lost")

    def replace(self) -> None:
        """The supervisor believes the owner dead and starts another; the old one lives on."""
        if self.owner is not None:
            self.zombies.append(self.owner)
        self.owner = None
        self.the_owner()

    def freeze_in_write(self) -> None:
        """The next write is frozen after its check, until a successor has committed."""
        self.store.before_write.append(self._overtake)

    def _overtake(self) -> None:
        self.store.count("frozen in write")
        previous, self.owner = self.owner, None
        if previous is not None and previous not in self.zombies:
            self.zombies.append(previous)
        if self.the_owner() is not None:
            self.commit()

    def the_owner(self) -> OwnedTable | None:
        if self.owner is None:
            self.runs += 1
            try:
                owner = attach(f"run-{self.runs}", self.clock)
                owner.admit({source(p): 0 for p in range(self.partitions)})
            except Crash:
                return None
            except (Retryable, OutcomeUnknown):
                return None
            except Fenced:
                return None
            self.owner = owner
        return self.owner

    def zombie_commits(self) -> None:
        """An owner that was replaced wakes up with units in hand: stale, then refreshed."""
        if not self.zombies:
            return
        zombie = self.rng.choice(self.zombies)
        partition = self.rng.randrange(self.partitions)
        held = zombie.states().get(source(partition))
        start = held.next if held is not None else 0
        if self.rng.random() < 0.5:
            start = audit_end(self.store, partition)
        try:
            zombie.commit([unit_of(zombie, "zombie", {partition: (start, start + 2)})])
        except (Fenced, Crash, Retryable, OutcomeUnknown):
            self.store.count("zombie stopped")

    def commit(self) -> None:
        """Some consumers hand over; the owner commits them as a group."""
        owner = self.the_owner()
        if owner is None:
            return
        chosen = [c for c in self.consumers if self.rng.random() < 0.7]
        for consumer in chosen:
            if not consumer.positions:
                consumer.seek(owner)
        units = [c.make(owner, self.rng) for c in chosen]
        try:
            outcomes = owner.commit(units)
        except (Crash, Fenced):
            if self.owner is owner:
                self.owner = None
            return
        except (Retryable, OutcomeUnknown):
            return
        for consumer, unit, outcome in zip(chosen, units, outcomes, strict=True):
            self.answered(consumer, unit, outcome)

    def answered(self, consumer: Consumer, unit: Unit, outcome: UnitOutcome) -> None:
        """A consumer seeks where its unit was refused, and reads on where it was not."""
        consumer.waiting = None
        if outcome.status == "refused":
            consumer.positions.update({s.partition: end for s, end in outcome.ends.items()})
            return
        self.committed += outcome.status == "committed"
        for one in unit.ranges:
            consumer.positions[one.source.partition] = one.end
            self.group[one.source.partition] = one.start


def audit_end(store: Store, partition: int) -> int:
    """A partition's end by its txn."""
    txns = store.txns(len(store.versions) - 1)
    return txns.get(f"raylake/{PIPELINE}/orders/topic-id-1/{partition}/next", 0)


def run_schedule(seed: int | random.Random, steps: int = 20) -> World:
    """Run one schedule, then let everything calm down, and audit.

    Args:
        seed: A seed, or the source of all choices.
        steps: Things that happen before the calm.

    Raises:
        AssertionError: The account does not balance, or nothing moves any more; names the seed.
    """
    store = Store()
    with simulated(store):
        world = World(store, random.Random(seed) if isinstance(seed, int) else seed)
        try:
            for _ in range(steps):
                world.step()
            store.faults, store.before_write, store.unreadable = [], [], 0
            world.rng = random.Random(0)
            before = sum(audit(store, world.partitions).values())
            for _ in range(8):
                world.commit()
            after = sum(audit(store, world.partitions).values())
            assert after > before, "nothing moves any more"
        except (AssertionError, ValueError, LogDamaged) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    return world
