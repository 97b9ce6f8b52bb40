"""RayDP's part of a session: its jars, its settings, and its master within the driver's JVM.

``raydp.init_spark`` has an actor of Python, its gateway's JVM and a JVM for the master, each
started after the other, before the driver's own starts: half of the time to a first result. Here
the driver's JVM is connected to Ray itself, which is what RayDP does for its ``raydp-submit``, and
holds the master, which only passes on what the driver asks for. The executors are RayDP's.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from raylake.spark.resources import Executor

MASTER_URL: Final = "ray"
"""What a driver is submitted with, before its master is there."""
_UNPACKED: Final = re.compile(r" (/tmp/ray/\d+/libcore_worker_library_java\.so)$", re.MULTILINE)
DRIVER_LOG: Final = "-Dlog4j2.configurationFile=org/apache/spark/log4j2-defaults.properties"
"""Spark's own; another one, of Ray's, is on the class path, too."""
_FIRST, _LAST = ("raydp", "pyspark"), ("ray",)


def class_path(delta: Sequence[Path]) -> tuple[Path, ...]:
    """The jars of driver and executors alike: RayDP's, Spark's, Delta's, Ray's.

    RayDP's come first, since it brings classes of Spark's that it changed.
    """
    first = [jar for name in _FIRST for jar in _jars(name)]
    last = [jar for name in _LAST for jar in _jars(name)]
    return (*first, *delta, *last)


def raydp_settings(
    executor: Executor, count: int, address: str, jars: Sequence[Path]
) -> dict[str, str]:
    """What RayDP's scheduler, and the executors that it starts, are told by Spark's settings.

    Args:
        executor: One of them.
        count: How many there are from the start on.
        address: Of the driver's node.
        jars: The class path.
    """
    (agent,) = [jar for jar in jars if jar.name.startswith("raydp-agent")]
    return {
        "spark.master": MASTER_URL,
        "spark.executor.instances": str(count),
        "spark.executor.cores": f"{executor.cpus:g}",
        "spark.executor.memory": f"{int(executor.memory_bytes) // 2**20}m",
        "spark.driver.host": address,
        "spark.driver.bindAddress": address,
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
        "spark.javaagent": str(agent),
        "spark.ray.log4j.factory.class": "log4j2",
        "spark.ray.log4j.config.file.name": "log4j2.xml",
    }


def add_java_options(settings: dict[str, str], role: str, options: Sequence[str]) -> None:
    """Give a JVM more options.

    Args:
        settings: The session's, which are added to.
        role: ``driver`` or ``executor``.
        options: None of them has a space.
    """
    name = f"spark.{role}.extraJavaOptions"
    said = " ".join(filter(None, [settings.get(name, ""), *options]))
    if said:
        settings[name] = said


def reserved_settings(group: str, bundles: int) -> dict[str, str]:
    """What the master is told of the executors' placement group.

    Args:
        group: Its number, in hex.
        bundles: One for each executor.
    """
    return {
        "spark.ray.placement_group": group,
        "spark.ray.bundle_indexes": ",".join(map(str, range(bundles))),
    }


def ray_options(node: Mapping[str, Any], gcs: str, namespace: str) -> dict[str, str]:
    """How a JVM on a node is connected to Ray.

    Args:
        node: As ``ray.nodes()`` has it.
        gcs: The cluster's address.
        namespace: Of the actors that it makes.
    """
    session = Path(node["RayletSocketName"]).parents[1]
    return {
        "ray.run-mode": "CLUSTER",
        "ray.node-ip": node["NodeManagerAddress"],
        "ray.address": gcs,
        "ray.session-dir": str(session),
        "ray.logging.dir": str(session / "logs"),
        "ray.logging.level": "INFO",
        "ray.raylet.node-manager-port": str(node["NodeManagerPort"]),
        "ray.raylet.socket-name": node["RayletSocketName"],
        "ray.object-store.socket-name": node["ObjectStoreSocketName"],
        "ray.raylet.config.num_workers_per_process_java": "1",
        "ray.job.namespace": namespace,
    }


class Master:
    """RayDP's master, and the connection to Ray that it starts executors by.

    Args:
        jvm: The driver's, as py4j shows it.
        options: Those of :func:`ray_options`.
        jars: The executors' class path.
    """

    def __init__(self, jvm: Any, options: Mapping[str, str], jars: Sequence[Path]) -> None:
        for name, value in options.items():
            jvm.java.lang.System.setProperty(name, value)
        self._ray = jvm.io.ray.api.Ray
        self._ray.init()
        raydp = jvm.org.apache.spark.deploy.raydp
        self._master = raydp.RayAppMaster(os.pathsep.join(map(str, jars)))

    def url(self) -> str:
        """Where the driver registers."""
        return str(self._master.getMasterUrl())

    def stop(self) -> None:
        """End it, and the executors with their owner's connection."""
        self._master.stop()
        self._ray.shutdown()


def share_library(maps: str, session: Path) -> None:
    """Let executors load the native library of Ray that the driver's JVM unpacked.

    A driver in Java unpacks it into a folder of its own, which nobody deletes: 41 MB with each
    start. Ray's workers unpack it again unless it lies in the folder of the session.

    Args:
        maps: The files that the JVM has mapped, as ``/proc/<pid>/maps`` shows them.
        session: The session's folder.
    """
    for own in {Path(found) for found in _UNPACKED.findall(maps)}:
        shared = session / own.name
        with suppress(OSError):
            if not shared.exists():
                # It may be another disk: nobody is to find half of it.
                part = shared.with_suffix(f".{own.parent.name}")
                shutil.move(own, part)
                part.rename(shared)
            shutil.rmtree(own.parent)


def _jars(package: str) -> list[Path]:
    spec = find_spec(package)
    places = (spec.submodule_search_locations or []) if spec else []
    return sorted(jar for place in places for jar in Path(place).glob("jars/*.jar"))
