"""Where a run's HTTP endpoints listen: ``host:port``, or ``off``."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from raylake.config.findings import Invalid

OFF: Final = "off"
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})")
_HINT: Final = "write 127.0.0.1:0 (a free port), 0.0.0.0:9464 or off"


def host_and_port(address: str) -> tuple[str, int] | None:
    """The parts of an address; None for ``off``.

    Raises:
        Invalid: It is neither.
    """
    if address == OFF:
        return None
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        raise Invalid(f"{address!r} is not an address to listen at", _HINT)
    return match[1] or match[2], int(match[3])


def _check(text: str) -> str:
    host_and_port(text)
    return text


ListenAddress = Annotated[str, AfterValidator(_check)]
"""``host:port`` (port 0: a free one) or ``off``."""
