"""Asks the cluster whether a pipeline fits it, before the pipeline begins."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylake.client.fitting import refuse_local_paths, refuse_missing_cpus, refuse_other_client
from raylake.config import Pipeline
from raylake.config.addresses import is_local, written_addresses
from raylake.errors import DependencyUnreachable

__all__ = ["check_cluster", "refuse_other_client"]

LOOK_TIMEOUT_S = 30.0


def check_cluster(config: Pipeline, consumers: int) -> None:
    """Refuse a pipeline that this cluster cannot run.

    Args:
        config: The pipeline.
        consumers: How many it starts.

    Raises:
        NoSuchResources: No node has room for them.
        LocalPath: It writes to folders that not all hosts see.
        DependencyUnreachable: A host cannot be asked.
    """
    nodes = _alive()
    refuse_missing_cpus(
        consumers,
        [float(one["Resources"].get("CPU", 0.0)) for one in nodes],
        _growth(),
        fixed=config.ingest.consumers != "auto",
    )
    local = [path for path in written_addresses(config) if is_local(path)]
    if local and _other_hosts(nodes):
        refuse_local_paths(local, _unseeing(local))


def _alive() -> list[dict[str, Any]]:
    return [one for one in ray.nodes() if one["Alive"]]


def _growth() -> float | None:
    """CPUs that the autoscaler may bring the cluster to."""
    from ray._private.state import state

    found: dict[str, float] | None = state.get_max_resources_from_cluster_config()
    return None if found is None else float(found.get("CPU", 0.0))


def _other_hosts(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """A node of each machine that is not this one, by the machine's name."""
    own = ray.get_runtime_context().get_node_id()
    here = {one["NodeManagerHostname"] for one in nodes if one["NodeID"] == own}
    found = {one["NodeManagerHostname"]: str(one["NodeID"]) for one in nodes}
    return {host: node for host, node in found.items() if host not in here}


def _unseeing(local: list[str]) -> list[str]:
    """The hosts that do not see the folders; asked again where a node has gone meanwhile."""
    while True:
        others = _other_hosts(_alive())
        try:
            return _without(local, others)
        except RayError as error:
            # Ray takes a while to notice that a node is lost.
            if {one["NodeID"] for one in _alive()} >= set(others.values()):
                raise DependencyUnreachable(
                    f"a node of the cluster could not be asked for its folders: {error}",
                    hint="`ray status` shows its nodes",
                ) from error


def _without(local: list[str], others: dict[str, str]) -> list[str]:
    """The hosts that do not see what this one writes into each of the folders."""
    name = f".raylake-seen-{secrets.token_hex(4)}"
    made = []
    for path in local:
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        made.append(str(folder / name))
    try:
        asked = {host: _sees.options(**_on(node)).remote(made) for host, node in others.items()}
        return [host for host, one in asked.items() if not ray.get(one, timeout=LOOK_TIMEOUT_S)]
    finally:
        for one in made:
            with contextlib.suppress(OSError):
                Path(one).unlink()


def _on(node: str) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def _all_there(files: list[str]) -> bool:
    return all(Path(one).exists() for one in files)


_sees: Any = ray.remote(num_cpus=0, max_retries=0)(_all_there)
