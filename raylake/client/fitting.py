"""Whether a pipeline fits the cluster that it is to run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from raylake import __version__
from raylake.client.submission import CLIENT_VERSION_ENV
from raylake.errors import Refused, WrongVersion


class NoSuchResources(Refused):
    """No node of the cluster, and none that it could add, has what the run asks for."""

    code = "no_such_resources"


class LocalPath(Refused):
    """A folder of one machine was named, and the cluster has several."""

    code = "local_path"


def refuse_other_client(environ: Mapping[str, str]) -> None:
    """Refuse to run what another version of RayLake submitted.

    Raises:
        WrongVersion: It did.
    """
    theirs = environ.get(CLIENT_VERSION_ENV)
    if theirs is not None and theirs != __version__:
        raise WrongVersion(
            f"RayLake {theirs} submitted this job, and the cluster has RayLake {__version__}",
            hint=f"pip install 'raylake=={__version__}' where you submit, or renew the image",
        )


def refuse_missing_cpus(
    consumers: int, nodes: Sequence[float], growth: float | None, *, fixed: bool
) -> None:
    """Refuse consumers that would wait for a CPU for ever; each one asks for one.

    Args:
        consumers: How many there are.
        nodes: The CPUs of each node.
        growth: CPUs that an autoscaler could bring the cluster to; None: there is none.
        fixed: Their number is configured; else one suffices.

    Raises:
        NoSuchResources: There is no room for them even when nothing else runs.
    """
    asked = consumers if fixed else min(consumers, 1)
    room = max(sum(int(one) for one in nodes), int(growth or 0))
    if room < asked:
        can = "" if growth is None else ", also with all the nodes that it may add"
        raise NoSuchResources(
            f"{asked} consumers ask for a CPU each, and the cluster has {room}{can}",
            hint="fewer consumers (`ingest: {consumers: …}`), or nodes with CPUs: "
            "`ray start --num-cpus`, `resources` of a node type",
        )


def refuse_local_paths(paths: Iterable[str], unseen: Sequence[str]) -> None:
    """Refuse folders of this machine that other machines of the cluster do not see.

    Args:
        paths: The local folders below which the run writes.
        unseen: The hosts that do not see what was written there.

    Raises:
        LocalPath: There are such hosts.
    """
    if unseen:
        named = ", ".join(sorted(paths))
        raise LocalPath(
            f"{named}: a folder of this machine, and {', '.join(sorted(unseen))} of the same "
            "cluster does not have it: what is written there would be lost to the tables",
            hint="an object store (lake: s3://…), or one folder that is mounted on every node",
        )
