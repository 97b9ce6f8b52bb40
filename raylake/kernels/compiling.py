"""The decorators of kernels and of the functions that they call."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Callable, Iterator
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


def _cached(name: str) -> bool:
    return any(folder().glob(f"{name}-*.nbc"))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process of a machine compiles, and the others wait for it and load what it made."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder().mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context((folder() / "compiling.lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kernel(signature: Any) -> Callable[[Function], Function]:
    """Compile a function for one signature, now, or take it from the cache.

    It runs without the GIL, and without bounds checks: a kernel checks what it reads.

    Args:
        signature: numba's, e.g. ``"int64(uint8[::1], int64)"`` or ``types.int64(types.int64)``.
    """

    def compiled(function: Function) -> Function:
        name = f"{Path(function.__code__.co_filename).stem}.{function.__name__}"
        compile_or_load = numba.njit(signature, cache=True, **_LIKE_KERNELS)
        with contextlib.nullcontext() if _cached(name) else _alone():
            if not _cached(name):
                log.warning(
                    "compiling the kernel %s, once for this version and processor (`python -m "
                    "raylake.kernels` does it beforehand; cache: %s)",
                    name,
                    folder(),
                )
            ready: Function = compile_or_load(function)
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
