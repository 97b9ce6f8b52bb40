"""The address of a cluster's Jobs API, and what its requests carry."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from raylake.client.environment import prepare_ray
from raylake.client.submission import WHOLE_FOLDER_ENV
from raylake.errors import ConfigError

ADDRESS_ENV: Final = "RAY_API_SERVER_ADDRESS"
AUTHORIZATION: Final = "Authorization"
WHICH_ADDRESS: Final = (
    "is it the dashboard's address (http://head:8265), and does the cluster run its dashboard?"
)
# Ray takes the address and how it packs from the process's variables, above what it is given.
_variables = threading.RLock()


def cluster_address(given: str | None, environ: MutableMapping[str, str] = os.environ) -> str:
    """The cluster to submit to, after Ray's own variables were set for it; for a command.

    Args:
        given: ``--address``; without it Ray's own variables count.
        environ: The process's variables; changed, before Ray is imported.

    Raises:
        ConfigError: There is none, or it holds credentials.
    """
    address = given or environ.get(ADDRESS_ENV) or environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError(
            "no cluster to submit to",
            hint="--address http://head:8265 or RAY_ADDRESS; `raylake run` needs none",
        )
    refuse_credentials(address)
    environ[ADDRESS_ENV] = environ["RAY_ADDRESS"] = address
    environ[WHOLE_FOLDER_ENV] = "1"
    prepare_ray(environ)
    return address


def refuse_credentials(address: str) -> None:
    """Refuse an address that holds a user's name or password.

    Raises:
        ConfigError: It does.
    """
    if "@" in address:
        raise ConfigError(
            "the cluster's address holds credentials, which would be seen by everybody",
            hint="give them by RAY_JOB_HEADERS, and the token by RAY_AUTH_TOKEN_PATH",
        )


@contextmanager
def set_for(address: str) -> Iterator[None]:
    """Ray's variables for this address, and as they were afterwards.

    ``RAY_ADDRESS`` itself counts for whatever else this process does with Ray.
    """
    wanted = {ADDRESS_ENV: address, WHOLE_FOLDER_ENV: "1", "RAY_ADDRESS": address}
    with _variables:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        prepare_ray()
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def job_headers(environ: Mapping[str, str], home: Path | None = None) -> dict[str, str]:
    """Headers of each request: those of ``RAY_JOB_HEADERS``, and the token by Ray's own order.

    Ray itself reads the token once a process, and not at all where it was imported first.

    Args:
        environ: The variables.
        home: The user's folder, where Ray keeps a token.
    """
    found = environ.get("RAY_JOB_HEADERS")
    headers: dict[str, str] = json.loads(found) if found else {}
    named = any(name.lower() == AUTHORIZATION.lower() for name in headers)
    if named or environ.get("RAY_AUTH_MODE", "token") != "token":
        return headers
    token = environ.get("RAY_AUTH_TOKEN")
    if not token:
        kept = environ.get("RAY_AUTH_TOKEN_PATH")
        path = Path(kept) if kept else (home or Path.home()) / ".ray" / "auth_token"
        token = path.read_text().strip() if path.is_file() else ""
    return {**headers, AUTHORIZATION: f"Bearer {token}"} if token else headers
