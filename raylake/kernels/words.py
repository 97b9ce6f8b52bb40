"""Text, eight bytes at a time. A word is little-endian: its lowest byte is the first one."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from raylake.kernels.compiling import inner
from raylake.kernels.memory import load8, load64, store64

_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)


@intrinsic
def trailing_zeros(typing: Any, word: Any) -> Any:  # noqa: ARG001
    """The zero bits below the lowest one of a word that is not zero."""

    def emit(_: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), emit


@inner
def byte(address, at):
    """A byte, 0 to 255."""
    return np.int64(load8(address + at))


@inner
def special(word):
    """Not zero when a byte ends or interrupts plain ASCII text in a JSON string.

    The lowest bit set is the top bit of the first such byte: a quotation mark, a backslash, a
    control character, or a byte of 0x80 and above.
    """
    quote = word ^ _QUOTES
    backslash = word ^ _BACKSLASHES
    found = (quote - _ONES) & ~quote
    found |= (backslash - _ONES) & ~backslash
    found |= (word - _SPACES) & ~word
    return (found | word) & _TOPS


@inner
def copy_words(source, at, size, target, to):
    """Copy short text; up to seven bytes behind it are read and overwritten."""
    done = 0
    while done < size:
        store64(target + to + done, np.int64(load64(source + at + done)))
        done += 8
