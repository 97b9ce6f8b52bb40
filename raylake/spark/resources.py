"""Whether a Ray cluster has what Spark's executors ask for, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from raylake.config.spark import Spark
from raylake.spark.errors import SparkUnavailable, TooFewResources

MIB: Final = 2**20
PLACE: Final = "spark"
"""A custom resource of the nodes that Spark is meant for, where a cluster has such nodes."""
A_PLACE: Final = 0.001
_HINT: Final = (
    "ask for less in the section `spark` (executors, cores, memory), or add nodes to the cluster"
)


@dataclass(frozen=True, slots=True)
class Executor:
    """What one executor takes of a Ray node."""

    cpus: float
    memory_bytes: float

    @classmethod
    def of(cls, spark: Spark) -> Executor:
        """As the configuration has it; Spark counts in whole MiB."""
        return cls(float(spark.cores), float(spark.memory_bytes // MIB * MIB))

    @property
    def bundle(self) -> dict[str, float]:
        """As a bundle of a placement group."""
        return {"CPU": self.cpus, "memory": self.memory_bytes}

    def room(self, resources: Mapping[str, float]) -> int:
        """How many of these a node with such resources holds."""
        cpus = resources.get("CPU", 0.0) / self.cpus
        return max(0, int(min(cpus, resources.get("memory", 0.0) / self.memory_bytes)))

    def __str__(self) -> str:
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"
        return f"{cpus} and {self.memory_bytes / MIB:.0f} MiB"


def host_resources(offered: Mapping[str, float]) -> dict[str, float]:
    """What the actor with Spark's driver asks for, so that it comes to a node meant for Spark.

    Args:
        offered: What the cluster has, or an autoscaler may bring it to.
    """
    return {PLACE: A_PLACE} if offered.get(PLACE) else {}


def refuse_too_few(
    executor: Executor,
    count: int,
    nodes: Sequence[Mapping[str, float]],
    growth: Mapping[str, float] | None,
) -> None:
    """Refuse executors that the cluster cannot hold even when nothing else runs on it.

    Args:
        executor: One of them.
        count: How many there are to be from the start on.
        nodes: All resources of each node that lives.
        growth: What an autoscaler may bring the cluster to; None without one.

    Raises:
        TooFewResources: Saying what is asked for and what the cluster has.
    """
    if sum(executor.room(node) for node in nodes) >= count:
        return
    if growth is not None and executor.room(growth) >= count:
        return
    has = "; ".join(_shown(node) for node in nodes) or "no node"
    more = "" if growth is None else f"; its autoscaler stops at {_shown(growth)}"
    raise TooFewResources(
        f"Spark asks for {_asked(executor, count)}, and the cluster cannot hold that. It has "
        f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}: {has}{more}",
        hint=_HINT,
        asked=executor.bundle,
        executors=count,
        nodes=[dict(node) for node in nodes],
    )


def other_machines(
    executor: Executor, nodes: Sequence[tuple[str, Mapping[str, float]]], own: str
) -> list[str]:
    """The addresses of machines, other than the driver's, on which executors may be started.

    Args:
        executor: One of them.
        nodes: Address and all resources of each node that lives.
        own: The address of the driver's node.
    """
    return sorted({address for address, has in nodes if address != own and executor.room(has)})


def refuse_local(table: str, others: Sequence[str], own: str) -> None:
    """Refuse a table on a disk where executors may be on machines that do not have that disk.

    Its rows, too, reach Spark and come back through a folder of the driver's machine. Those of a
    table in a store pass through the store.

    Args:
        table: The table's address.
        others: As :func:`other_machines`.
        own: The address of the driver's node.

    Raises:
        SparkUnavailable: Naming such a machine.
    """
    if others and "://" not in table:
        raise SparkUnavailable(
            f"{table} lies on a disk; Spark's executors may be started on {others[0]}, and its "
            f"driver is on {own}",
            hint="use engine: delta-rs, or a lake in an object store (s3://…), on which Spark "
            "works over several machines. `spark: memory` larger than those nodes have keeps "
            "executors away from them",
            nodes=list(others),
        )


def not_free(
    executor: Executor, count: int, free: Mapping[str, float], waited_s: float
) -> TooFewResources:
    """The error for executors that the cluster holds, and did not have room for in time."""
    return TooFewResources(
        f"Spark asks for {_asked(executor, count)}, which did not come free within {waited_s:.0f} "
        f"s. Free in the whole cluster now: {_shown(free)}",
        hint="wait until other work is done (`ray status` shows it), or " + _HINT,
        asked=executor.bundle,
        executors=count,
        free=dict(free),
    )


def _asked(executor: Executor, count: int) -> str:
    return f"{count} executor{'s' if count != 1 else ''}, each with {executor}"


def _shown(resources: Mapping[str, float]) -> str:
    memory = resources.get("memory", 0.0) / MIB
    return f"{resources.get('CPU', 0.0):g} CPUs, {memory:.0f} MiB"
