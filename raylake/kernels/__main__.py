"""Compile every kernel into the cache: set-up, and the last step of an image."""

from __future__ import annotations

import sys
import time

from raylake import kernels
from raylake.kernels.cache import folder


def main() -> int:
    """Compile what is not cached yet."""
    began_s = time.monotonic()
    for name in kernels.NAMES:
        kernels.load(name)
    spent_s = time.monotonic() - began_s
    print(f"{len(kernels.NAMES)} modules of kernels ready in {spent_s:.1f} s: {folder()}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
