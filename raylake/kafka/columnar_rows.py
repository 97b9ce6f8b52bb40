"""The Arrow buffers that the kernel of record batches fills."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylake.kafka.records import FETCH_SCHEMA, HEADERS_TYPE
from raylake.kernels.record_state import Code, Field

State = npt.NDArray[np.int64]

_MIN_ROWS = 64
_MIN_BYTES = 1024
_BYTES_A_ROW = 64
_PAIR: Final = HEADERS_TYPE.value_type
_BYTE_COLUMNS: Final = {
    Code.SHORT_KEYS: (Field.KEYS, Field.KEY_BYTES),
    Code.SHORT_VALUES: (Field.VALUES, Field.VALUE_BYTES),
    Code.SHORT_NAMES: (Field.NAMES, Field.NAME_BYTES),
    Code.SHORT_CONTENTS: (Field.CONTENTS, Field.CONTENT_BYTES),
}
_ROW_BITS: Final = (Field.TIME_BITS, Field.KEY_BITS, Field.VALUE_BITS)


def address(array: npt.NDArray[Any]) -> int:
    """Where an array's first byte is."""
    found: int = array.__array_interface__["data"][0]
    return found


class RowBuffers:
    """Room for rows, which grows as the kernel asks; then a batch of ``FETCH_SCHEMA``.

    Its memory is what is delivered and as much again, at most: it doubles where it is short.

    Args:
        state: The kernel's; it is told of the buffers.
        expected_bytes: Keys and values to come, a guess.
        max_rows: Rows to come, at most.
    """

    def __init__(self, state: State, expected_bytes: int, max_rows: int) -> None:
        self._state = state
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        state[Field.ROWS : Field.CONTENT_ROOM + 1] = 0
        state[Field.TEXT] = 0
        self._make_rows(max(_MIN_ROWS, min(max_rows, expected_bytes // _BYTES_A_ROW)))
        self._make_bytes(Field.VALUES, Field.VALUE_BYTES, max(_MIN_BYTES, expected_bytes))
        self._make_bytes(Field.KEYS, Field.KEY_BYTES, max(_MIN_BYTES, expected_bytes // 8))

    def __len__(self) -> int:
        return int(self._state[Field.ROWS])

    def grow(self, code: int) -> None:
        """Make room where the kernel found it short."""
        needed = int(self._state[Field.NEEDED])
        if code == Code.SHORT_ROWS:
            self._make_rows(max(needed, 2 * int(self._state[Field.ROWS_ROOM])))
        elif code == Code.SHORT_HEADERS:
            self._make_headers(max(needed, 2 * int(self._state[Field.HEADER_ROOM]), _MIN_ROWS))
        else:
            data, used = _BYTE_COLUMNS[Code(code)]
            room = int(self._state[used + 1])
            self._make_bytes(data, used, max(needed, 2 * room, _MIN_BYTES))

    def finish(self) -> pa.RecordBatch:
        """The rows; the buffers are the batch's from here on."""
        rows = len(self)
        columns = [
            self._fixed(Field.OFFSETS, rows, Field.OFFSETS, None),
            self._fixed(Field.TIMES, rows, Field.TIME_BITS, Field.TIME_NULLS),
            self._binary(Field.KEY_ENDS, Field.KEYS, rows, Field.KEY_BITS),
            self._binary(Field.VALUE_ENDS, Field.VALUES, rows, Field.VALUE_BITS),
            self._headers(rows),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=FETCH_SCHEMA)

    def _place(self, field: int, array: npt.NDArray[Any], kept: int) -> None:
        before = self._arrays.get(field)
        if before is not None:
            array[:kept] = before[:kept]
        self._arrays[field] = array
        self._state[field] = address(array)

    def _make_rows(self, rows: int) -> None:
        used = len(self)
        for field in (Field.OFFSETS, Field.TIMES):
            self._place(field, np.empty(rows, np.int64), used)
        for field in (Field.KEY_ENDS, Field.VALUE_ENDS, Field.HEADER_ENDS):
            self._place_ends(field, rows, used)
        for field in _ROW_BITS:
            self._place(field, np.full(rows // 8 + 1, 255, np.uint8), used // 8 + 1)
        self._state[Field.ROWS_ROOM] = rows

    def _make_headers(self, headers: int) -> None:
        used = int(self._state[Field.HEADERS])
        self._place_ends(Field.NAME_ENDS, headers, used)
        self._place_ends(Field.CONTENT_ENDS, headers, used)
        self._place(Field.CONTENT_BITS, np.full(headers // 8 + 1, 255, np.uint8), used // 8 + 1)
        self._state[Field.HEADER_ROOM] = headers
        if not used:
            self._make_bytes(Field.NAMES, Field.NAME_BYTES, _MIN_BYTES)
            self._make_bytes(Field.CONTENTS, Field.CONTENT_BYTES, _MIN_BYTES)

    def _place_ends(self, field: int, count: int, used: int) -> None:
        ends = np.empty(count + 1, np.int32)
        ends[0] = 0
        self._place(field, ends, used + 1)

    def _make_bytes(self, data: int, used: int, room: int) -> None:
        self._place(data, np.empty(room, np.uint8), int(self._state[used]))
        self._state[used + 1] = room

    def _buffer(self, field: int) -> pa.Buffer:
        return pa.py_buffer(self._arrays[field])

    def _bits(self, field: int) -> pa.Buffer | None:
        # The count of nulls lies behind the bits.
        return self._buffer(field) if self._state[field + 1] else None

    def _fixed(self, field: int, rows: int, bits: int, nulls: int | None) -> pa.Array:
        present = None if nulls is None else self._bits(bits)
        count = 0 if nulls is None else int(self._state[nulls])
        return pa.Array.from_buffers(pa.int64(), rows, [present, self._buffer(field)], count)

    def _binary(self, ends: int, data: int, rows: int, bits: int) -> pa.Array:
        buffers = [self._bits(bits), self._buffer(ends), self._buffer(data)]
        return pa.Array.from_buffers(pa.binary(), rows, buffers, int(self._state[bits + 1]))

    def _headers(self, rows: int) -> pa.Array:
        count = int(self._state[Field.HEADERS])
        if count:
            contents = self._binary(Field.CONTENT_ENDS, Field.CONTENTS, count, Field.CONTENT_BITS)
            pairs = pa.StructArray.from_arrays([self._names(count), contents], fields=list(_PAIR))
        else:
            pairs = _NO_PAIRS
        ends = [None, self._buffer(Field.HEADER_ENDS)]
        return pa.Array.from_buffers(HEADERS_TYPE, rows, ends, 0, children=[pairs])

    def _names(self, count: int) -> pa.Array:
        buffers = [None, self._buffer(Field.NAME_ENDS), self._buffer(Field.NAMES)]
        names = pa.Array.from_buffers(pa.binary(), count, buffers, 0)
        if not self._state[Field.TEXT]:
            return names.view(pa.string())
        # As the plain path: what is no UTF-8 becomes \xNN.
        texts = [name.decode("utf-8", "backslashreplace") for name in names.to_pylist()]
        return pa.array(texts, pa.string())


_NO_PAIRS: Final = pa.array([], _PAIR)
