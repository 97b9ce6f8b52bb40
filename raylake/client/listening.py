"""Whether anybody listens at a cluster's address; Ray itself takes a minute to find that out."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from raylake.errors import DependencyUnreachable

CONNECT_TIMEOUT_S: Final = 5.0


def require_listener(address: str, hint: str) -> None:
    """Make sure that somebody listens at an address.

    Where requests go by a proxy, or the address names no port, nothing is tried.

    Args:
        address: ``http://head:8265`` or ``head:6379``.
        hint: What to do where nobody does.

    Raises:
        DependencyUnreachable: Nobody does, or there is no such host.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = place.hostname, place.port
        if host is None or port is None or place.scheme in getproxies():
            return
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise DependencyUnreachable(
            f"no Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}",
            hint=hint,
        ) from error
