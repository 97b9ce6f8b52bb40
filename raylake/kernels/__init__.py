"""Loops compiled with numba: the record batches of Kafka, JSON messages.

Only the modules of this folder import numba, which takes 0.5 s; so they are imported by
:func:`load`, where they are needed. Importing one compiles its kernels, or takes them from the
cache (:mod:`raylake.kernels.cache`). ``python -m raylake.kernels`` fills the cache.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = ("record_batches", "json_rows", "json_columns")


def load(name: str) -> ModuleType:
    """A module of kernels, ready to be called.

    Args:
        name: One of :data:`NAMES`.
    """
    return importlib.import_module(f"raylake.kernels.{name}")
