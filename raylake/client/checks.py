"""What ``raylake doctor`` looks at on this machine, whatever the pipeline."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from raylake.client.launch import PACKAGE_ROOT
from raylake.errors import RayLakeError
from raylake.kafka.artifacts import KAFKA_VERSION, cache_folder
from raylake.kafka.java import find_java
from raylake.spark.jars import OWN_ENV, jar_folder, pinned_jars

GIB = 1024**3
LEAST_DISK_BYTES = GIB
LEAST_MEMORY_BYTES = 2 * GIB
LEAST_SHARED_BYTES = 128 * 1024**2
LONGEST_RAY_DIR = 60
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
NEEDED = ("ray", "deltalake", "pyarrow", "kafka-python", "pydantic", "numpy", "duckdb", "orjson")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: What.
        state: ``ok``, ``warn`` (works, with a drawback) or ``fail``.
        found: What is there.
        fix: What to do; empty when it is ``ok``.
        exit_code: Of the command, when this one fails.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""
    exit_code: int = 1


def machine_checks(environ: Mapping[str, str], folder: Path) -> Iterator[Check]:
    """This machine, without a pipeline file.

    Args:
        environ: The variables.
        folder: The current folder.
    """
    yield _python()
    yield from _packages()
    yield _java(environ)
    yield from _jars(environ)
    yield _ray_folder(environ)
    yield _jobs(folder)
    yield _memory()
    yield _shared_memory()
    yield _ports()


def failed(name: str, error: RayLakeError) -> Check:
    """A check that fails with an error's words."""
    return Check(name, "fail", error.message, error.hint, error.exit_code)


def _python() -> Check:
    found = sys.version.split()[0]
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Check("python", "ok", found)
    return Check("python", "fail", found, "use Python 3.11 or 3.12")


def _packages() -> Iterator[Check]:
    for line in _requirements():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        fix = f"pip install '{wanted}'"
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield Check(f"package {wanted.name}", "fail", "not installed", fix)
            continue
        fits = wanted.specifier.contains(found, prereleases=True)
        state: Literal["ok", "fail"] = "ok" if fits else "fail"
        yield Check(f"package {wanted.name}", state, found, "" if fits else fix)


def _requirements() -> list[str]:
    try:
        return requires("raylake") or []
    except PackageNotFoundError:
        return list(NEEDED)


def _java(environ: Mapping[str, str]) -> Check:
    try:
        java = find_java(environ)
    except RayLakeError as error:
        return Check("java", "warn", error.message, f"{error.hint}; only dev and Spark need it")
    return Check("java", "ok", f"{java.major}, {java.executable}")


def _jars(environ: Mapping[str, str]) -> Iterator[Check]:
    cache = cache_folder(environ)
    there = cache
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        fix = "set RAYLAKE_CACHE to a folder of this user's"
        yield Check("cache", "warn", f"{cache} cannot be written", fix)
    own = environ.get("RAYLAKE_KAFKA_HOME")
    broker = Path(own) if own else cache / f"kafka-{KAFKA_VERSION}"
    if any(broker.rglob("kafka_2.1*.jar")):
        yield Check("jars of Kafka", "ok", f"in {broker}")
    else:
        fix = "`raylake dev up` fetches them (43 MB); only a broker on this machine needs them"
        yield Check("jars of Kafka", "warn", f"none in {broker}", fix)
    if find_spec("pyspark") is None:
        found = "not needed: Spark is not installed, and ingestion does without it"
        yield Check("jars of Delta for Spark", "ok", found)
        return
    own_jars = environ.get(OWN_ENV)
    folder = Path(own_jars) if own_jars else cache / jar_folder()
    if all((folder / jar.filename).exists() for jar in pinned_jars()):
        yield Check("jars of Delta for Spark", "ok", f"in {folder}")
    else:
        fix = "Spark's first start fetches them (see RAYLAKE_SPARK_JARS); ingestion needs none"
        yield Check("jars of Delta for Spark", "warn", f"not all in {folder}", fix)


def _ray_folder(environ: Mapping[str, str]) -> Check:
    folder = environ.get("RAYLAKE_RAY_DIR") or str(Path(tempfile.gettempdir()) / "raylake-ray")
    if len(folder) > LONGEST_RAY_DIR:
        fix = "set RAYLAKE_RAY_DIR to a shorter path: Ray's sockets lie below it"
        return Check("ray folder", "fail", folder, fix)
    there = Path(folder)
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / GIB:.1f} GiB free"
    if free < LEAST_DISK_BYTES:
        fix = "free some space, or set RAYLAKE_RAY_DIR to a folder that has some"
        return Check("ray folder", "warn", found, fix)
    return Check("ray folder", "ok", found)


def _jobs(folder: Path) -> Check:
    hiding = [
        path
        for name in ("jobs", "actors", "raylake")
        for path in (folder / name / "__init__.py", folder / f"{name}.py")
        if path.exists() and PACKAGE_ROOT not in (folder.resolve(), path.resolve().parent)
    ]
    if not hiding:
        return Check("jobs package", "ok", f"ours, from {PACKAGE_ROOT}")
    fix = "`raylake run` and `raylake job ingest` find ours; `python -m jobs.ingest` would not"
    return Check("jobs package", "warn", f"{hiding[0]} hides ours here", fix)


def memory_bytes() -> int:
    """What is available to this process: the machine's, or less where a container limits it."""
    free = int(psutil.virtual_memory().available)
    for name in _CGROUP_FILES:
        try:
            limit = int(Path(name).read_text())
        except (OSError, ValueError):
            continue
        return min(free, limit)
    return free


def _memory() -> Check:
    free = memory_bytes()
    found = f"{free / GIB:.1f} GiB available"
    if free >= LEAST_MEMORY_BYTES:
        return Check("memory", "ok", found)
    return Check("memory", "warn", found, "lower ingest.consumers or ingest.buffer")


def _shared_memory() -> Check:
    folder = Path("/dev/shm")  # noqa: S108 - only looked at
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    found = f"{free / 1024**2:,.0f} MiB free in {folder}"
    if free >= LEAST_SHARED_BYTES:
        return Check("shared memory", "ok", found)
    return Check("shared memory", "warn", found, "in a container: --shm-size=512m")


def _ports() -> Check:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
            with socket.create_connection(probe.getsockname(), timeout=2.0):
                pass
    except OSError as error:
        fix = "allow connections of this machine to itself: Ray's processes need them"
        return Check("ports", "fail", f"loopback does not answer: {error}", fix)
    return Check("ports", "ok", "loopback answers")
