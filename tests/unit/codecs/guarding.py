"""Memory that ends at a page that nobody may touch: reading or writing past it ends the process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raylake.codecs import RECORD_SCHEMA

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)


def guarded(size: int) -> tuple[int, mmap.mmap]:
    """The address of so many bytes that end at such a page, and what keeps them alive."""
    room = -(-size // _PAGE) * _PAGE
    memory = mmap.mmap(-1, room + _PAGE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    guard = ctypes.c_void_p(begin + room)
    if _LIBC.mprotect(guard, ctypes.c_size_t(_PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return begin + room - size, memory


def guarded_array(shape: Any, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """As ``numpy.zeros``, in such memory."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    address, memory = guarded(count * dtype.itemsize)
    cells = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    cells.memory = memory
    return np.frombuffer(cells, dtype, count).reshape(shape)


def guarded_batch(values: Sequence[bytes | None]) -> pa.RecordBatch:
    """Records whose values, offsets and validity lie in such memory."""
    rows = len(values)
    present = [b"" if value is None else value for value in values]
    offsets = np.cumsum([0, *map(len, present)]).astype(np.int32)
    valid = np.packbits([value is not None for value in values], bitorder="little")
    buffers = [_buffer(part) for part in (valid.tobytes(), offsets.tobytes(), b"".join(present))]
    columns = [
        pa.array(range(rows), pa.int64()),
        pa.array([0] * rows, pa.int64()),
        pa.nulls(rows, pa.binary()),
        pa.Array.from_buffers(pa.binary(), rows, buffers),
        pa.nulls(rows, RECORD_SCHEMA.field("headers").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)


def _buffer(data: bytes) -> pa.Buffer:
    address, memory = guarded(len(data))
    ctypes.memmove(address, data, len(data))
    return pa.foreign_buffer(address, len(data), memory)
