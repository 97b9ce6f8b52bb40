"""Where compiled kernels are kept, by content.

numba's own cache is keyed by the source's path, so that each new ``working_dir`` of a Ray job would
compile again (2.6 to 3.7 s a kernel). Here the folder is named after the content of all kernels'
sources and numba's version; numba adds the processor and the signature.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

HERE = Path(__file__).parent


def folder() -> Path:
    """The folder of the kernels as they are written now; it may not exist yet."""
    root = os.environ.get("RAYLAKE_CACHE")
    base = Path(root) if root else Path.home() / ".cache" / "raylake"
    return base / "kernels" / f"{numba.__version__}-{_content()}"


@functools.cache
def _content() -> str:
    found = hashlib.sha256()
    for source in sorted(HERE.glob("*.py")):
        found.update(f"{source.name}\0".encode() + source.read_bytes() + b"\0")
    return found.hexdigest()[:24]


class ContentLocator(caching._CacheLocator):  # type: ignore[misc] # noqa: SLF001
    """numba's way to ask where a function of this folder is cached."""

    def __init__(self, function: Any) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        """The folder."""
        return str(folder())

    def get_source_stamp(self) -> str:
        """What makes an entry stale; the folder's name says it already."""
        return _content()

    def get_disambiguator(self) -> str:
        """Tells functions of one name apart."""
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> ContentLocator | None:
        """A locator for our own kernels, when the folder can be written."""
        if Path(py_file).parent != HERE:
            return None
        locator = cls(py_func)
        try:
            path = folder()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What lies there is run: nobody else's.
            if path.stat().st_uid != os.getuid():
                return None
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator
