"""What ``raylake doctor`` looks at: this machine, and what one pipeline file needs."""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from raylake.client.launch import PACKAGE_ROOT
from raylake.config import Loaded, TopicPattern
from raylake.config.addresses import normalise_table_address
from raylake.delta.probe import probe_store
from raylake.errors import RayLakeError
from raylake.kafka.client import Cluster
from raylake.kafka.java import find_java
from raylake.storage.objects import StorePath
from raylake.storage.place import place, write_whole
from raylake.storage.reach import explained

GIB = 1024**3
LEAST_DISK_BYTES = GIB
LEAST_MEMORY_BYTES = 2 * GIB
LEAST_SHARED_BYTES = 128 * 1024**2
LONGEST_RAY_DIR = 60
MOST_SKEW_S = 2.0
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
    yield from _ray(environ)
    yield _jobs(folder)
    yield _memory()
    yield _shared_memory()
    yield _ports()


def pipeline_checks(loaded: Loaded) -> Iterator[Check]:
    """What a pipeline file needs: its lake, its brokers, its topics."""
    lake = place(normalise_table_address(loaded.config.lake))
    yield from _store(lake) if isinstance(lake, StorePath) else _lake(lake)
    yield from _kafka(loaded)


def _failed(name: str, error: RayLakeError) -> Check:
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


def _ray(environ: Mapping[str, str]) -> Iterator[Check]:
    address = environ.get("RAY_ADDRESS")
    yield Check("ray address", "ok", f"RAY_ADDRESS={address}" if address else "embedded, own token")
    if address:
        yield _token(environ)
    folder = environ.get("RAYLAKE_RAY_DIR") or str(Path(tempfile.gettempdir()) / "raylake-ray")
    if len(folder) > LONGEST_RAY_DIR:
        fix = "set RAYLAKE_RAY_DIR to a shorter path: Ray's sockets lie below it"
        yield Check("ray folder", "fail", folder, fix)
    else:
        yield Check("ray folder", "ok", folder)


def _token(environ: Mapping[str, str]) -> Check:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if environ.get(name):
            return Check("ray token", "ok", f"from {name}")
    default = Path.home() / ".ray" / "auth_token"
    if default.exists():
        return Check("ray token", "ok", f"from {default}")
    fix = "`ray get-auth-token --generate` on the cluster, then RAY_AUTH_TOKEN_PATH here"
    return Check("ray token", "warn", "none; a cluster with authentication refuses", fix)


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


def _memory() -> Check:
    free = int(psutil.virtual_memory().available)
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


def _store(lake: StorePath) -> Iterator[Check]:
    probe = lake / f".raylake-doctor-{secrets.token_hex(4)}"
    try:
        probe_store(lake)
        write_whole(probe, "")
        skew_s = abs(probe.stat().st_mtime - time.time())
        probe.unlink()
    except OSError as error:
        yield _failed("lake", explained(lake, error))
        return
    except RayLakeError as error:
        yield _failed("lake", error)
        return
    yield Check("lake", "ok", f"{lake} takes commits, one writer a version")
    yield _clock(skew_s)


def _clock(skew_s: float) -> Check:
    if skew_s > MOST_SKEW_S:
        fix = "set the clocks by NTP, here and where the folder is"
        return Check("clock", "warn", f"{skew_s:.1f} s from the lake's", fix)
    return Check("clock", "ok", "agrees with the lake's")


def _lake(lake: Path) -> Iterator[Check]:
    there = lake
    while not there.exists():
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
        found = f"{free / GIB:.1f} GiB free for {lake}"
        state: Literal["ok", "warn"] = "ok" if free >= LEAST_DISK_BYTES else "warn"
        yield Check("disk", state, found, "" if state == "ok" else "free some space")
        with tempfile.TemporaryDirectory(prefix=".raylake-doctor-", dir=there) as scratch:
            probe_store(Path(scratch))
            file = Path(scratch) / "clock"
            file.touch()
            skew_s = abs(file.stat().st_mtime - time.time())
    except OSError as error:
        fix = "may this user write there, and is there space?"
        yield Check("lake", "fail", f"{there}: {error.strerror or error}", fix, 5)
        return
    except RayLakeError as error:
        yield _failed("lake", error)
        return
    yield Check("lake", "ok", f"{lake} takes commits, one writer a version")
    yield _clock(skew_s)


def _kafka(loaded: Loaded) -> Iterator[Check]:
    kafka = loaded.config.kafka
    with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        try:
            everything = set(cluster.topics(pattern=".*"))
        except RayLakeError as error:
            yield _failed("broker", error)
            return
        yield Check("broker", "ok", f"{kafka.bootstrap} answers")
        wanted: set[str] = set()
        for name, table in loaded.config.bronze.items():
            if isinstance(table.topics, TopicPattern):
                found = [topic for topic in everything if table.topics.matches(topic)]
                wanted.update(found)
                fix = "" if found else "correct the pattern, or create a topic"
                state: Literal["ok", "warn"] = "ok" if found else "warn"
                yield Check(f"topics of bronze.{name}", state, f"{len(found)} match", fix)
                continue
            missing = [topic for topic in table.topics if topic not in everything]
            wanted.update(topic for topic in table.topics if topic in everything)
            if missing:
                place = loaded.origins.get(f"bronze.{name}.topics", "")
                found_text = f"not there: {', '.join(missing)} ({place})"
                fix = "correct the name, or create the topic"
                yield Check(f"topics of bronze.{name}", "fail", found_text, fix, 2)
            else:
                yield Check(f"topics of bronze.{name}", "ok", ", ".join(table.topics))
        yield _leaders(cluster, sorted(wanted))


def _leaders(cluster: Cluster, topics: list[str]) -> Check:
    try:
        infos = cluster.topics(topics).values() if topics else ()
        sources = [source for info in infos for source in info.sources()]
        if sources:
            cluster.earliest(sources)
    except RayLakeError as error:
        return _failed("advertised listeners", error)
    return Check("advertised listeners", "ok", f"the leaders of {len(sources)} partitions answer")
