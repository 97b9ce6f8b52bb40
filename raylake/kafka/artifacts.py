"""The jars of the local Kafka broker: pinned by checksum, fetched once into the cache folder.

The list (``kafka_artifacts.json``) holds each jar's Maven coordinates and SHA-256. They come from,
in this order: ``RAYLAKE_KAFKA_HOME`` (an unpacked Kafka), the cache, the repository at
``RAYLAKE_MAVEN_BASE``, or Ivy's default repository, through the Ivy jar that pyspark carries.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError
from raylake.kafka.java import Java

KAFKA_VERSION = "4.1.0"
_DOWNLOAD_TIMEOUT_S = 120.0
_IVY_TIMEOUT_S = 900.0


class Jar(NamedTuple):
    """One pinned jar."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """Its name in the cache folder."""
        return f"{self.name}-{self.version}.jar"

    @property
    def url_path(self) -> str:
        """Its address below a Maven repository's base."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.filename}"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``RAYLAKE_CACHE``, or ``~/.cache/raylake``."""
    return Path(environ.get("RAYLAKE_CACHE") or Path.home() / ".cache" / "raylake").expanduser()


def pinned_jars() -> list[Jar]:
    """The jars that make up the broker."""
    text = files("raylake.kafka").joinpath("kafka_artifacts.json").read_text()
    jars = []
    for coordinates, sha256 in json.loads(text)["jars"].items():
        group, name, version = coordinates.split(":")
        jars.append(Jar(group, name, version, sha256))
    return jars


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` locked against other processes; waits until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def kafka_jars(cache: Path, java: Java, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the broker's jars, filled when it is not there yet.

    Two processes may call this at once. If it fails, the cache is as it was.

    Raises:
        ConfigError: Nothing here can fetch the jars, or RAYLAKE_KAFKA_HOME is wrong.
        DependencyUnreachable: The repository did not deliver them.
    """
    own = environ.get("RAYLAKE_KAFKA_HOME")
    if own:
        return _unpacked(Path(own))
    target = cache / f"kafka-{KAFKA_VERSION}"
    with file_lock(cache / f"kafka-{KAFKA_VERSION}.lock"):
        if not target.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=".kafka-", dir=cache))
            try:
                (scratch / "libs").mkdir()
                _fill(scratch, java, environ)
                _verify(scratch / "libs")
                (scratch / "libs").rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def _unpacked(home: Path) -> Path:
    folder = home / "libs" if (home / "libs").is_dir() else home
    if not list(folder.glob("kafka_2.1*.jar")):
        raise ConfigError(
            f"RAYLAKE_KAFKA_HOME={home} holds no Kafka: no kafka_2.1*.jar in {folder}",
            hint="point it at an unpacked Kafka 4.x, the folder that has libs/",
        )
    return folder


def _fill(scratch: Path, java: Java, environ: Mapping[str, str]) -> None:
    base = environ.get("RAYLAKE_MAVEN_BASE")
    if base:
        _download(base, scratch / "libs")
        return
    ivy = _ivy_jar()
    if ivy is None:
        raise ConfigError(
            "the local broker's jars are not in the cache, and nothing here can fetch them",
            hint="pip install 'raylake[spark]' (its pyspark carries Ivy), or set RAYLAKE_KAFKA_HOME"
            " to an unpacked Kafka 4.x, or RAYLAKE_MAVEN_BASE to a Maven repository",
        )
    _resolve_with_ivy(ivy, scratch, java)


def _ivy_jar() -> Path | None:
    spec = importlib.util.find_spec("pyspark")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for jar in sorted(Path(place).glob("jars/ivy-*.jar")):
            return jar
    return None


def _resolve_with_ivy(ivy: Path, scratch: Path, java: Java) -> None:
    wanted = "\n".join(
        f"<dependency org={quoteattr(jar.group)} name={quoteattr(jar.name)}"
        f' rev={quoteattr(jar.version)} transitive="false" conf="*->master"/>'
        for jar in pinned_jars()
    )
    module = scratch / "ivy.xml"
    module.write_text(
        '<ivy-module version="2.0"><info organisation="raylake" module="kafka"/>'
        f"<dependencies>\n{wanted}\n</dependencies></ivy-module>"
    )
    command = java.command(
        *("-jar", str(ivy), "-ivy", str(module), "-cache", str(scratch / "ivy")),
        *("-retrieve", f"{scratch}/libs/[artifact]-[revision].[ext]"),
    )
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_IVY_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise DependencyUnreachable(
            "Ivy could not fetch the local broker's jars: "
            + _last_lines(done.stdout + done.stderr),
            hint="is the Maven repository reachable from here? See also RAYLAKE_MAVEN_BASE",
        )


def _download(base: str, folder: Path) -> None:
    if not base.startswith("https://"):
        raise ConfigError(
            f"RAYLAKE_MAVEN_BASE={base} is not an https address", hint="use https://…"
        )

    def one(jar: Jar) -> None:
        address = f"{base.rstrip('/')}/{jar.url_path}"
        try:
            with urllib.request.urlopen(address, timeout=_DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310
                (folder / jar.filename).write_bytes(answer.read())
        except (urllib.error.URLError, OSError) as error:
            raise DependencyUnreachable(
                f"{address} could not be fetched: {error}",
                hint="check RAYLAKE_MAVEN_BASE, and SSL_CERT_FILE where a proxy re-signs traffic",
            ) from error

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, pinned_jars()))


def _verify(folder: Path) -> None:
    for jar in pinned_jars():
        path = folder / jar.filename
        if not path.is_file():
            raise DependencyUnreachable(f"the repository did not deliver {jar.filename}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != jar.sha256:
            raise RayLakeError(
                f"{jar.filename} is not the pinned file: SHA-256 {found}, expected {jar.sha256}",
                hint="the repository, or something on the way to it, changed the file",
            )


def _last_lines(text: str, count: int = 5) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-count:])
