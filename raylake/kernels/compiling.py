"""The decorators of kernels and of the functions that they call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching

from raylake.kernels.cache import ContentLocator, folder

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

_LIKE_KERNELS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
# Without the ways in from Python and C, which takes a third off the time to compile.
_FOR_KERNELS = {**_LIKE_KERNELS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

if ContentLocator not in caching.CacheImpl._locator_classes:  # noqa: SLF001
    caching.CacheImpl._locator_classes.insert(0, ContentLocator)  # noqa: SLF001


def kernel(signature: Any) -> Callable[[Function], Function]:
    """Compile a function for one signature, now, or take it from the cache.

    It runs without the GIL, and without bounds checks: a kernel checks what it reads.

    Args:
        signature: numba's, e.g. ``"int64(uint8[::1], int64)"`` or ``types.int64(types.int64)``.
    """

    def compiled(function: Function) -> Function:
        name = f"{Path(function.__code__.co_filename).stem}.{function.__name__}"
        if not any(folder().glob(f"{name}-*.nbc")):
            log.warning(
                "compiling the kernel %s, once for this version and processor (`python -m "
                "raylake.kernels` does it beforehand; cache: %s)",
                name,
                folder(),
            )
        began_s = time.monotonic()
        ready: Function = numba.njit(signature, cache=True, **_LIKE_KERNELS)(function)
        log.debug("kernel %s ready after %.2f s", name, time.monotonic() - began_s)
        return ready

    return compiled


def inner(function: Function) -> Function:
    """A function that kernels call; compiled into each place where they do."""
    ready: Function = numba.njit(forceinline=True, **_FOR_KERNELS)(function)
    return ready


def apart(function: Function) -> Function:
    """As :func:`inner`, for what is rare or long: it need not be repeated wherever it is called."""
    ready: Function = numba.njit(**_FOR_KERNELS)(function)
    return ready
