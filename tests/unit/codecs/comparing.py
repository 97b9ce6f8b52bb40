"""Whether two decoders make the same of records: rows bit by bit, dead letters, new columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from raylake.codecs import Decoded, Decoder, DecoderSpec, JsonDecoder, merge_schema
from raylake.codecs.columnar import ColumnarJsonDecoder


def decoders(spec: DecoderSpec) -> dict[str, Decoder]:
    """The columnar decoder and the two ways of the plain one; all have one schema."""
    found: dict[str, Decoder] = {
        "exact": JsonDecoder(replace(spec, careful=True)),
        "plain": JsonDecoder(spec),
        "columnar": ColumnarJsonDecoder(spec),
    }
    for decoder in found.values():
        assert decoder.schema.equals(found["exact"].schema, check_metadata=True)
    return found


def assert_same(spec: DecoderSpec, records: pa.RecordBatch, *, exact: bool = True) -> Decoded:
    """All decoders make the same of the records; with ``evolve`` also after it has evolved.

    Args:
        spec: What is decoded.
        records: The batch.
        exact: Whether the exact path is compared too; it is the slow one.

    Returns:
        What the columnar decoder made of them, in the end.
    """
    ways = decoders(spec)
    if not exact:
        del ways["exact"]
    found = {name: decoder.decode(records) for name, decoder in ways.items()}
    columnar = found.pop("columnar")
    for name, other in found.items():
        assert_equal(columnar, other, records, name)
    if columnar.additions is not None:
        evolved = merge_schema(pa.schema(list(spec.schema or ())), columnar.additions)
        return assert_same(replace(spec, schema=evolved), records, exact=exact)
    columnar.payload.validate(full=True)
    assert columnar.payload.schema.equals(ways["columnar"].schema)
    assert columnar.kept.dtype == np.int64
    return columnar


def assert_equal(one: Decoded, other: Decoded, records: pa.RecordBatch, name: str) -> None:
    """Two results say the same; what differs is shown with its message."""
    assert one.additions == other.additions, name
    if one.additions is not None:
        return
    if one.kept.tolist() != other.kept.tolist() or one.dead != other.dead:
        raise AssertionError(f"not as {name}: " + _first_fate(one, other, records))
    if not identical(one.payload, other.payload):
        raise AssertionError(f"not as {name}: " + _first_row(one, other, records))


def identical(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    """Whether two batches have the same schema and values; zeros have signs."""
    if not one.schema.equals(other.schema, check_metadata=True) or one.num_rows != other.num_rows:
        return False
    return all(
        a.equals(b) and _bits(a) == _bits(b)
        for a, b in zip(one.columns, other.columns, strict=True)
    )


def _bits(array: pa.Array) -> list[bytes]:
    """The bits of all floating numbers in an array, nulls as zero."""
    dtype = array.type
    if pa.types.is_floating(dtype):
        return [array.fill_null(0).to_numpy(zero_copy_only=False).tobytes()]
    if pa.types.is_struct(dtype):
        return [bits for inner in array.flatten() for bits in _bits(inner)]
    if pa.types.is_list(dtype):
        return _bits(array.flatten())
    if pa.types.is_map(dtype):
        pairs = array.cast(pa.list_(pa.struct([("k", dtype.key_type), ("v", dtype.item_type)])))
        return _bits(pairs.flatten())
    return []


def _first_fate(one: Decoded, other: Decoded, records: pa.RecordBatch) -> str:
    values = records.column("value")
    sides = [({r.row: r for r in d.dead}, set(d.kept.tolist())) for d in (one, other)]
    for row in range(records.num_rows):
        got, expected = ((dead.get(row), row in kept) for dead, kept in sides)
        if got != expected:
            return f"row {row}: {values[row].as_py()!r}\n  got {got}\n  expected {expected}"
    return "the fates are equal, but not their order"


def _first_row(one: Decoded, other: Decoded, records: pa.RecordBatch) -> str:
    values = records.column("value")
    for at, row in enumerate(one.kept.tolist()):
        got, expected = one.payload.slice(at, 1), other.payload.slice(at, 1)
        if not identical(got, expected):
            shown = [
                f"{field.name!r} {field.type}: got {a[0].as_py()!r}, expected {b[0].as_py()!r}"
                for field, a, b in zip(one.payload.schema, got, expected, strict=True)
                if not a.equals(b) or _bits(a) != _bits(b)
            ]
            return f"row {row}: {values[row].as_py()!r}\n  " + "\n  ".join(shown)
    return f"schemas or lengths: {one.payload.schema} and {other.payload.schema}"
