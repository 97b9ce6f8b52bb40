"""Jars that are pinned by checksum and fetched once into the cache folder.

They come from, in this order: a folder that the user names, the cache, the repository at
``RAYLAKE_MAVEN_BASE``, or Ivy's default repository, through the Ivy jar that pyspark carries.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self
from xml.sax.saxutils import quoteattr

from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError
from raylake.kafka.java import Java

_DOWNLOAD_TIMEOUT_S = 120.0
_IVY_TIMEOUT_S = 900.0


class Jar(NamedTuple):
    """One pinned jar."""

    group: str
    name: str
    version: str
    sha256: str

    @classmethod
    def pinned(cls, coordinates: str, sha256: str) -> Self:
        """A jar of ``group:name:version``."""
        group, name, version = coordinates.split(":")
        return cls(group, name, version, sha256)

    @property
    def filename(self) -> str:
        """Its name in the cache folder."""
        return f"{self.name}-{self.version}.jar"

    @property
    def url_path(self) -> str:
        """Its address below a Maven repository's base."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.filename}"


@dataclass(frozen=True, slots=True)
class JarSet:
    """Jars that are fetched together.

    Attributes:
        folder: Their folder's name below the cache.
        what: What they are, in a message.
        jars: The jars.
        otherwise: How else they can be had, for the hint.
    """

    folder: str
    what: str
    jars: tuple[Jar, ...]
    otherwise: str

    def fetched(self, cache: Path, java: Java, environ: Mapping[str, str] = os.environ) -> Path:
        """The folder that holds them, filled when it is not there yet.

        Two processes may call this at once. If it fails, the cache is as it was.

        Raises:
            ConfigError: Nothing here can fetch the jars.
            DependencyUnreachable: The repository did not deliver them.
        """
        target = cache / self.folder
        with file_lock(cache / f"{self.folder}.lock"):
            if not target.is_dir():
                scratch = Path(tempfile.mkdtemp(prefix=f".{self.folder}-", dir=cache))
                try:
                    (scratch / "libs").mkdir()
                    self._fill(scratch, java, environ)
                    self.verify(scratch / "libs")
                    (scratch / "libs").rename(target)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
        return target

    def verify(self, folder: Path) -> None:
        """Check that a folder holds every jar as it is pinned.

        Raises:
            DependencyUnreachable: One is missing.
            RayLakeError: One is another file.
        """
        for jar in self.jars:
            path = folder / jar.filename
            if not path.is_file():
                raise DependencyUnreachable(f"the repository did not deliver {jar.filename}")
            with path.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != jar.sha256:
                raise RayLakeError(
                    f"{jar.filename} is not the pinned file: SHA-256 {found}, expected "
                    f"{jar.sha256}",
                    hint="the repository, or something on the way to it, changed the file",
                )

    def _fill(self, scratch: Path, java: Java, environ: Mapping[str, str]) -> None:
        base = environ.get("RAYLAKE_MAVEN_BASE")
        if base:
            self._download(base, scratch / "libs")
            return
        ivy = _ivy_jar()
        if ivy is None:
            raise ConfigError(
                f"{self.what} are not in the cache, and nothing here can fetch them",
                hint="pip install 'raylake[spark]' (its pyspark carries Ivy), or set "
                f"{self.otherwise}, or RAYLAKE_MAVEN_BASE to a Maven repository",
            )
        self._resolve_with_ivy(ivy, scratch, java)

    def _resolve_with_ivy(self, ivy: Path, scratch: Path, java: Java) -> None:
        wanted = "\n".join(
            f"<dependency org={quoteattr(jar.group)} name={quoteattr(jar.name)}"
            f' rev={quoteattr(jar.version)} transitive="false" conf="*->master"/>'
            for jar in self.jars
        )
        module = scratch / "ivy.xml"
        module.write_text(
            f'<ivy-module version="2.0"><info organisation="raylake" module="{self.folder}"/>'
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
                f"Ivy could not fetch {self.what}: " + _last_lines(done.stdout + done.stderr),
                hint="is the Maven repository reachable from here? See also RAYLAKE_MAVEN_BASE",
            )

    def _download(self, base: str, folder: Path) -> None:
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
                    hint="check RAYLAKE_MAVEN_BASE, and SSL_CERT_FILE where a proxy re-signs "
                    "traffic",
                ) from error

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, self.jars))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``RAYLAKE_CACHE``, or ``~/.cache/raylake``."""
    return Path(environ.get("RAYLAKE_CACHE") or Path.home() / ".cache" / "raylake").expanduser()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` locked against other processes; waits until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _ivy_jar() -> Path | None:
    spec = importlib.util.find_spec("pyspark")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for jar in sorted(Path(place).glob("jars/ivy-*.jar")):
            return jar
    return None


def _last_lines(text: str, count: int = 5) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-count:])
