"""Numbers of many digits in a column of doubles: the nearest double, if it surely keeps the digits.

A text of up to 17 digits is ``T * 10^p``, T of exactly 17. With a power of five to 128 bits, its
double and the distance to that are known to 2^-56 of the last place (after D. Lemire, Number
parsing at a gigabyte per second, 2021); what is too near to an edge is left to the exact path.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from raylake.kernels.compiling import apart, inner
from raylake.kernels.json_text import BAD, MAX_DIGITS
from raylake.kernels.memory import intrinsic

_DIGITS = 17
# T * 10^p is a normal double only for these p.
_FIRST, _LAST = -325, 292
# Distances are in 2^-56 of the last place; all errors together are less than this many.
_UNSURE = 256
_PLACE, _HALF = 1 << 56, 1 << 55
_TEN = np.uint64(10)
_HUNDRED = np.uint64(100)


def _five(power: int) -> int:
    """The first 128 bits of a power of five."""
    if power < 0:
        below: int = 5**-power
        return (1 << (below.bit_length() + 127)) // below
    five: int = 5**power
    return (five << 128) >> five.bit_length()


_FIVES = [_five(power) for power in range(_FIRST, _LAST + 1)]
_UPPER = np.array([five >> 64 for five in _FIVES], np.uint64)
_LOWER = np.array([five & (2**64 - 1) for five in _FIVES], np.uint64)


@intrinsic
def _product_high(typing: Any, one: Any, other: Any) -> Any:  # noqa: ARG001
    """The upper 64 bits of a product of two words."""

    def emit(_: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(factor, wide) for factor in given))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def _leading_zeros(typing: Any, word: Any) -> Any:  # noqa: ARG001
    """The zero bits above the highest one of a word that is not zero."""

    def emit(_: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
        return builder.ctlz(given[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), emit


@apart
def kept_double(digits: Any, count: int, power: int) -> int:
    """The bits of the double nearest to ``digits * 10^power``, if it keeps them.

    Args:
        digits: An integer of ``count`` digits, without leading zeros.
        count: How many; ``digits`` is only looked at when these are few enough.
        power: Of ten; 0 when the text is an integer's.

    Returns:
        The bits; BAD when the exact path has to decide: the text may be none of the double's
        shortest form, its form of 17 digits and (all that an integer may be) its exact value.
    """
    if count > MAX_DIGITS or digits == np.uint64(0):
        return BAD
    if power == 0:
        return _whole(digits)
    while count > _DIGITS and digits % _TEN == np.uint64(0):
        digits //= _TEN
        count -= 1
        power += 1
    while count < _DIGITS:
        digits *= _TEN
        count += 1
        power -= 1
    if count > _DIGITS or power < _FIRST or power > _LAST:
        return BAD
    return _nearest(digits, power)


@inner
def _whole(digits: Any) -> int:
    if digits >= np.uint64(1 << 62):
        return BAD
    value = np.float64(np.int64(digits))
    if np.int64(value) != np.int64(digits):
        return BAD
    return np.int64(value.view(np.int64))  # type: ignore[return-value]


@inner
def _nearest(digits: Any, power: int) -> int:
    """As :func:`kept_double`, of exactly 17 digits; the last ones may be zeros."""
    zeros = _leading_zeros(digits)
    word = digits << zeros
    five = _UPPER[power - _FIRST]
    low = word * five
    high = _product_high(word, five)
    more = _product_high(word, _LOWER[power - _FIRST])
    low += more
    if low < more:
        high += np.uint64(1)
    # 53 bits, and behind them 56 bits of the fraction of the last place.
    shift = np.uint64(10) + (high >> np.uint64(63))
    first = high >> shift
    behind = ((high << (np.uint64(64) - shift)) >> np.uint64(8)) | (low >> (shift + np.uint64(8)))
    rest = np.int64(behind)
    if abs(rest - _HALF) < _UNSURE:
        return BAD
    step = np.int64(five >> (shift + np.uint64(8) - zeros))
    exponent = 1075 + np.int64(shift) - np.int64(zeros) + ((217_706 * power) >> 16)
    # The top one of the 53 bits counts as one more in the exponent.
    bits = (exponent << 52) + np.int64(first)
    room = _HALF
    if rest > _HALF:
        bits += 1
        rest -= _PLACE
        # Above a power of two, the places are twice as wide.
        room = _PLACE if bits & (2**52 - 1) == 0 else _HALF
    if bits < 2 << 52 or bits >= 2047 << 52:
        return BAD
    return bits if _kept(np.int64(digits % _HUNDRED), step, rest, room) else BAD


@inner
def _kept(ending: int, step: int, rest: int, room: int) -> bool:
    """Whether a double keeps the digits of the decimal that it is nearest to.

    Up to 15 digits it always does. It has 17 when no other decimal of 17 is as near to it; and its
    shortest form has 16 when none of 15 has the same nearest double and no other of 16 is as near.

    Args:
        ending: The last two of the 17 digits.
        step: One in the last of the 17 digits.
        rest: The decimal less the double.
        room: At least how far a decimal may be whose nearest double this is.
    """
    if ending == 0:
        return True
    if 2 * abs(rest) + _UNSURE < step:
        return True
    if ending % 10 or 2 * abs(rest) + _UNSURE >= 10 * step:
        return False
    below, above = ending * step - rest, (100 - ending) * step + rest
    return below > room + _UNSURE and above > room + _UNSURE
