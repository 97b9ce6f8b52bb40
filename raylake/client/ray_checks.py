"""What ``raylake doctor`` looks at of Ray: the cluster, its version, and the token for it."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from raylake.client.checks import Check, failed
from raylake.client.jobs_api import JobsApi
from raylake.client.listening import require_listener
from raylake.errors import RayLakeError

OR_EMBEDDED = "is the cluster up, and RAY_ADDRESS right? Without it an embedded one is started"
NEW_TOKEN = "`ray get-auth-token --generate` on the cluster, then RAY_AUTH_TOKEN_PATH here"  # noqa: S105


def ray_checks(environ: Mapping[str, str], home: Path | None = None) -> Iterator[Check]:
    """Which Ray a run would use, and whether it can be entered.

    Args:
        environ: The variables.
        home: The user's folder, where Ray keeps a token.
    """
    yield Check("ray version", "ok", f"{version('ray')} here")
    address = environ.get("RAY_API_SERVER_ADDRESS") or environ.get("RAY_ADDRESS")
    if not address:
        yield Check("ray address", "ok", "embedded on loopback, with a token of its own")
        return
    yield Check("ray address", "ok", f"RAY_ADDRESS={address}")
    yield from _token(environ, home or Path.home())
    yield from _cluster(address)


def _token(environ: Mapping[str, str], home: Path) -> Iterator[Check]:
    """By Ray's own order: the variable, the file that one names, the file in the home folder."""
    source = _token_source(environ, home)
    if source is None:
        yield Check("ray token", "warn", "none; a cluster with authentication refuses", NEW_TOKEN)
        return
    name, path = source
    mode = environ.get("RAY_AUTH_MODE", "token")
    if mode != "token":
        fix = "unset RAY_AUTH_MODE, or set it to token"
        yield Check("ray token", "warn", f"from {name}; RAY_AUTH_MODE={mode} keeps it back", fix)
        return
    if path is None:
        yield Check("ray token", "ok", f"from {name}")
        return
    try:
        empty = not path.read_bytes().strip()
        opened = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    except OSError as error:
        yield Check("ray token", "fail", f"{name}: {path}: {error.strerror}", NEW_TOKEN)
        return
    if empty:
        yield Check("ray token", "fail", f"{name}: {path} is empty", NEW_TOKEN)
    elif opened:
        yield Check("ray token", "warn", f"others can read {path}", f"chmod 600 {path}")
    else:
        yield Check("ray token", "ok", f"from {name}: {path}")


def _token_source(environ: Mapping[str, str], home: Path) -> tuple[str, Path | None] | None:
    if environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN", None
    if named := environ.get("RAY_AUTH_TOKEN_PATH"):
        return "RAY_AUTH_TOKEN_PATH", Path(named)
    kept = home / ".ray" / "auth_token"
    return ("Ray's own file", kept) if kept.exists() else None


def _cluster(address: str) -> Iterator[Check]:
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        require_listener(address, OR_EMBEDDED)
    except RayLakeError as error:
        yield failed("ray cluster", error)
        return
    if place.scheme not in ("http", "https"):
        yield Check("ray cluster", "ok", "answers; `raylake submit` wants its http address")
        return
    try:
        theirs = JobsApi(address).ray_version()
    except RayLakeError as error:
        yield failed("ray cluster", error)
        return
    ours = version("ray")
    state: Literal["ok", "fail"] = "ok" if theirs == ours else "fail"
    fix = "" if theirs == ours else f"pip install 'ray=={theirs}' here, or renew the cluster"
    yield Check("ray cluster", state, f"answers, Ray {theirs}; here {ours}", fix)
