"""What kernels read and write memory with: addresses, without reference counts.

numba counts references of an array at each call of an inner function, some 100 ns a record; and
allows for negative indices at each access. An address does neither; nor does it check anything:
whoever calls these has checked, and the arrays behind the addresses are held by the kernel's
caller.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic

from raylake.kernels.compiling import inner

intrinsic: Callable[[Any], Any] = numba_intrinsic

CPU_CRC = platform.machine() in ("x86_64", "AMD64") and bool(
    llvmlite.binding.get_host_cpu_features().get("sse4.2", False)
)
"""Whether the processor takes CRC-32C checksums (:func:`crc32c`)."""


def _load(bits: int, *, signed: bool) -> Any:
    @intrinsic
    def load(typing: Any, address: Any) -> Any:  # noqa: ARG001
        def emit(_: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(given[0], ir.IntType(bits).as_pointer())
            return builder.load(pointer, align=1)

        return types.Integer.from_bitwidth(bits, signed=signed)(types.int64), emit

    return load


def _store(bits: int) -> Any:
    @intrinsic
    def store(typing: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
        def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(given[0], ir.IntType(bits).as_pointer())
            part = builder.trunc(given[1], ir.IntType(bits)) if bits < 64 else given[1]
            builder.store(part, pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    return store


def _cpu_step(name: str, bits: int) -> Any:
    total = types.uint64 if bits == 64 else types.uint32

    @intrinsic
    def step(typing: Any, crc: Any, part: Any) -> Any:  # noqa: ARG001
        def emit(_: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
            wide = ir.IntType(64 if bits == 64 else 32)
            form = ir.FunctionType(wide, [wide, ir.IntType(bits)])
            return builder.call(cgutils.get_or_insert_function(builder.module, form, name), given)

        return total(total, types.Integer.from_bitwidth(bits, signed=False)), emit

    return step


load8, load64 = _load(8, signed=False), _load(64, signed=False)
_signed64 = _load(64, signed=True)
store8, store32, store64 = _store(8), _store(32), _store(64)


@inner
def _no_step(crc: Any, part: Any) -> Any:  # noqa: ARG001
    return crc


# Another processor cannot even compile them.
_crc_word = _cpu_step("llvm.x86.sse42.crc32.64.64", 64) if CPU_CRC else _no_step
_crc_byte = _cpu_step("llvm.x86.sse42.crc32.32.8", 8) if CPU_CRC else _no_step


@intrinsic
def copy(typing: Any, target: Any, source: Any, length: Any) -> Any:  # noqa: ARG001
    """Copy bytes from one address to another."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
        kind = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(one, kind) for one in given[:2])
        cgutils.raw_memcpy(builder, target, source, given[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@inner
def get(state: int, field: int) -> int:
    """A number of an array of 64-bit ones."""
    found: int = _signed64(state + field * 8)
    return found


@inner
def put(state: int, field: int, value: int) -> None:
    """Write a number of an array of 64-bit ones."""
    store64(state + field * 8, value)


@inner
def add(state: int, field: int, value: int) -> None:
    """Add to a number of an array of 64-bit ones."""
    store64(state + field * 8, _signed64(state + field * 8) + value)


@inner
def big_endian(address: int, size: int) -> int:
    """A signed big-endian number of ``size`` bytes."""
    found = np.int64(np.int8(load8(address)))
    for n in range(1, size):
        found = (found << 8) | np.int64(load8(address + n))
    return found  # type: ignore[return-value]


@inner
def clear_bit(bits: int, row: int) -> None:
    """Clear a bit of an Arrow bitmap."""
    at = bits + (row >> 3)
    store8(at, np.int64(load8(at)) & ~(1 << (row & 7)))


@inner
def crc32c(start: int, end: int) -> int:
    """The checksum of bytes; only where ``CPU_CRC``."""
    crc = np.uint64(0xFFFFFFFF)
    while start + 8 <= end:
        crc = _crc_word(crc, load64(start))
        start += 8
    rest = np.uint32(crc)
    while start < end:
        rest = _crc_byte(rest, load8(start))
        start += 1
    return np.int64(np.uint32(~rest))  # type: ignore[return-value]
