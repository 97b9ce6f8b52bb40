"""Reaching a Ray cluster: the one that is there, or an embedded one for this process alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psutil

from raylake.client.environment import prepare_ray
from raylake.client.listening import require_listener
from raylake.errors import ConfigError, DependencyUnreachable

NAMESPACE = "raylake"
SUBMITTED_ENV = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's variable with which `ray job submit` hands a job's configuration to it."""
RIGHT_ADDRESS: Final = (
    "is RAY_ADDRESS right, and RAY_AUTH_TOKEN the cluster's token? Without RAY_ADDRESS an embedded "
    "cluster is started"
)
RAYLET: Final = "raylet"
OF_GCS: Final = "--gcs-address"
OBJECT_STORE_BYTES = 128 * 1024 * 1024
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class ClusterHandle:
    """A connection to a cluster.

    Attributes:
        address: The GCS address.
        embedded: Whether it was started by this process and ends with it.
        session: Where it keeps its logs and sockets.
    """

    address: str
    embedded: bool
    session: Path

    def forget(self) -> None:
        """Delete an embedded cluster's logs, after it ended; Ray itself keeps every session's."""
        if self.embedded:
            shutil.rmtree(self.session, ignore_errors=True)


def connect(
    *, num_cpus: int | None = None, session_dir: Path | None = None, address: str | None = None
) -> ClusterHandle:
    """Connect to the cluster of ``RAY_ADDRESS``, or start an embedded one on loopback.

    Call :func:`raylake.client.environment.prepare_ray` before Ray is imported.

    Args:
        num_cpus: CPUs of an embedded cluster; None for the machine's.
        session_dir: Where an embedded cluster keeps its logs and sockets; a short path.
        address: In the place of ``RAY_ADDRESS``.

    Raises:
        DependencyUnreachable: No cluster answers at the address, or it refuses the token; or an
            embedded one does not come up.
    """
    import ray
    from ray.exceptions import AuthenticationError, RpcError
    from ray.job_config import JobConfig

    take_own_address()
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {
        "namespace": NAMESPACE,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    if SUBMITTED_ENV not in os.environ:
        # Otherwise Ray puts the current folder first on the workers' path, where a folder of the
        # user's named `actors` or `jobs` would hide ours. `ray job submit` brings its own.
        options["job_config"] = JobConfig(_client_job=True, _py_driver_sys_path=[str(PACKAGE_ROOT)])
    if address:
        options["address"] = address
    else:
        options |= {
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        if session_dir is not None:
            options["_temp_dir"] = str(session_dir)
    if address:
        require_listener(address, RIGHT_ADDRESS)
    reaching = Reaching(address, OSError, RuntimeError, AuthenticationError, RpcError)
    with reaching, nullcontext() if address else _without_monitors():
        context = ray.init(**options)
    info = context.address_info
    return ClusterHandle(str(info["gcs_address"]), not address, Path(str(info["session_dir"])))


def take_own_address(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let ``RAY_ADDRESS`` of a submitted job be the cluster that it was submitted to.

    Ray looks for it by a file of the node's temporary folder and, where that is not there, takes
    any cluster of the machine: with several of them the job would join a stranger's, or be refused
    there for its token. The raylet that the job descends from knows.
    """
    if SUBMITTED_ENV not in environ:
        return
    for parent in psutil.Process().parents():
        with suppress(psutil.Error):
            if parent.name() != RAYLET:
                continue
            words = dict(one.partition("=")[::2] for one in parent.cmdline())
            if own := words.get(OF_GCS):
                environ["RAY_ADDRESS"] = own
            return


def session_dir() -> Path:
    """Where embedded clusters keep logs and sockets; Ray's sockets need a short path."""
    chosen = os.environ.get("RAYLAKE_RAY_DIR")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"raylake-{os.getuid()}"


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Be connected to a cluster for a while; whoever is connected already stays so.

    Args:
        address: As for :func:`join`; an embedded one ends with the block.

    Raises:
        ConfigError, DependencyUnreachable: As :func:`join`.
    """
    if address is not None:
        join(address)
        yield
        return
    prepare_ray()
    import ray

    if ray.is_initialized():
        yield
        return
    handle = connect(num_cpus=os.cpu_count() or 1, session_dir=session_dir())
    try:
        yield
    finally:
        ray.shutdown()
        handle.forget()


def join(address: str | None) -> None:
    """Let this process be connected to a cluster; to which one, stays as it is where it is to one.

    Args:
        address: The cluster, as ``ray.init`` takes it; None: that of ``RAY_ADDRESS``, or an
            embedded one.

    Raises:
        ConfigError: The address is no driver's.
        DependencyUnreachable: No cluster answers.
    """
    if address is not None and address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address} is the address of Ray's Jobs API: this needs a driver's",
            hint="give connect() an address such as head:6379 or auto, within a job on the "
            "cluster or on one of its machines",
        )
    if address is not None and address.startswith("ray://"):
        raise ConfigError(
            f"{address} is the address of Ray's client server, which RayLake does not use",
            hint="give connect() an address such as head:6379 or auto, within a job on the "
            "cluster or on one of its machines",
        )
    _prepare(address)
    import ray

    if not ray.is_initialized():
        connect(address=address)


def _prepare(address: str | None) -> None:
    if address is None:
        prepare_ray()
        return
    environment = {**os.environ, "RAY_ADDRESS": address}
    prepare_ray(environment)
    del environment["RAY_ADDRESS"]
    os.environ.update(environment)


class Reaching:
    """Says what it means that Ray cannot be reached, or does not come up.

    Ray raises ``Exception`` itself when a node is too slow to start. That very class is meant, and
    not what derives from it, which no ``except`` can tell.

    Args:
        address: Of the cluster; None for an embedded one, of which nothing is left running.
        others: What else Ray raises for it.
    """

    def __init__(self, address: str | None, *others: type[Exception]) -> None:
        self._address = address
        self._others = others
        self._before = set(psutil.Process().children())

    def __enter__(self) -> None:
        """Nothing to do yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise ``DependencyUnreachable`` in the place of what Ray raised."""
        if kind is not Exception and not isinstance(error, self._others):
            return
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if self._address:
            raise DependencyUnreachable(
                f"no Ray cluster answers at {self._address}: {reason}",
                hint=RIGHT_ADDRESS,
            ) from error
        for child in set(psutil.Process().children()) - self._before:
            # Only what was started now, and below it: what this process had, goes on.
            with suppress(psutil.Error):
                for one in [*child.children(recursive=True), child]:
                    one.kill()
        raise DependencyUnreachable(
            f"Ray did not come up on this machine: {reason}",
            hint="is there memory, or is the machine overloaded? `raylake doctor` looks. Ray's "
            "sockets and logs lie in RAYLAKE_RAY_DIR, which must be a short path",
        ) from error


@contextmanager
def _without_monitors() -> Iterator[None]:
    """Start no autoscaler, no log monitor and no dashboard server: nobody asks them on one machine.

    ``ray start`` has options for the first two, ``ray.init`` has none; and without its dashboard
    the server still starts, for usage statistics alone, and the node waits for it. Two seconds of
    a start.
    """
    from ray._private import node, parameter

    whole, serve = parameter.RayParams, node.Node.start_api_server
    parameter.RayParams = partial(whole, no_monitor=True, include_log_monitor=False)
    node.Node.start_api_server = _no_server
    try:
        yield
    finally:
        parameter.RayParams = whole
        node.Node.start_api_server = serve


def _no_server(_node: Any, **_options: Any) -> None:
    """Its address stays unknown."""
