"""Kafka topics become Delta Lake tables that look after themselves, on a Ray cluster."""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raylake.client.fixes import DeadLetter
    from raylake.client.lake import Lake, connect

try:
    __version__ = version("raylake")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0.0.0+source"

__all__ = ["DeadLetter", "Lake", "__version__", "connect"]

_LAKE = "raylake.client.lake"
_OF = {"DeadLetter": "raylake.client.fixes", "Lake": _LAKE, "connect": _LAKE}


def __getattr__(name: str) -> Any:
    # Every process of a run imports this package: what only notebooks use comes when it is used.
    if name in _OF:
        return getattr(importlib.import_module(_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
