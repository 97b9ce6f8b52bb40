"""The raw format: each message's bytes, untouched, in one column ``value``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylake.codecs.port import TOMBSTONE, DeadRecord, Decoded, DecoderSpec


class RawDecoder:
    """Every value is a row; only one beyond ``max_message_bytes`` is a dead letter."""

    schema = pa.schema([("value", pa.binary()), (TOMBSTONE, pa.bool_())])

    def __init__(self, spec: DecoderSpec) -> None:
        self._max_bytes = spec.max_message_bytes

    def decode(self, records: pa.RecordBatch) -> Decoded:
        """See :meth:`raylake.codecs.port.Decoder.decode`."""
        values = records.column("value").cast(pa.binary())
        sizes = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
        fits = sizes <= self._max_bytes
        kept = np.flatnonzero(fits).astype(np.int64)
        dead = [
            DeadRecord(
                int(row),
                "decode",
                f"{int(sizes[row])} bytes; at most {self._max_bytes} are decoded",
                "MessageTooLarge",
            )
            for row in np.flatnonzero(~fits)
        ]
        if dead:
            values = values.take(pa.array(kept))
        payload = pa.RecordBatch.from_arrays([values, pc.is_null(values)], schema=self.schema)
        return Decoded(payload, kept, dead)
