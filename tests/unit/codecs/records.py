"""Records for the codec tests: batches from values, and every kind of broken JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raylake.codecs import RECORD_SCHEMA, Decoded, DecoderSpec, make_decoder, parse_schema

GOOD = b'{"id":"a","n":1,"price":9.5,"ok":true,"at":"2024-05-01T12:00:00Z"}'
COLUMNS = {
    "id": "string",
    "n": "int",
    "big": "long",
    "price": "double",
    "ok": "boolean",
    "at": "timestamp",
    "inner": "struct<a:int,b:string>",
    "tags": "array<string>",
}


def batch(values: Sequence[bytes | None]) -> pa.RecordBatch:
    """Records with these values."""
    rows = len(values)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(rows), pa.int64()),
            pa.array([0] * rows, pa.int64()),
            pa.nulls(rows, pa.binary()),
            pa.array(values, pa.binary()),
            pa.nulls(rows, RECORD_SCHEMA.field("headers").type),
        ],
        schema=RECORD_SCHEMA,
    )


def decode(
    values: Sequence[bytes | None], columns: dict[str, str] | None = None, **spec: Any
) -> Decoded:
    """Decode values against columns (``COLUMNS`` when none are given)."""
    schema = parse_schema(COLUMNS if columns is None else columns)
    return make_decoder(DecoderSpec(schema=schema, **spec)).decode(batch(values))


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    """The payload as dicts, without columns that are null or false."""
    assert decoded.additions is None
    return [
        {name: value for name, value in row.items() if value not in (None, False)}
        for row in decoded.payload.to_pylist()
    ]


def rescued(decoded: Decoded, row: int = 0) -> str | None:
    """The text in ``_rescued_data``."""
    assert decoded.additions is None
    text = decoded.payload.column("_rescued_data")[row].as_py()
    if text is not None:
        json.loads(text)
    return text


POISON: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "EmptyValue"),
    "white space": (b" \t\r\n", "EmptyValue"),
    "text": (b"hello", "InvalidJson"),
    "binary": (bytes(range(128)), "InvalidJson"),
    "avro magic byte": (b"\x00\x00\x00\x00\x07\x02a", "InvalidJson"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "InvalidUtf8"),
    "trailing garbage": (GOOD + b"x", "TrailingData"),
    "trailing NUL": (GOOD + b"\x00", "TrailingData"),
    "two objects": (b'{"n":1}{"n":2}', "TrailingData"),
    "two lines": (b'{"n":1}\n{"n":2}', "TrailingData"),
    "array": (b'[{"n":1}]', "NotAnObject"),
    "null text": (b"null", "NotAnObject"),
    "number": (b"17", "NotAnObject"),
    "string": (b'"{}"', "NotAnObject"),
    "boolean": (b"true", "NotAnObject"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "ByteOrderMark"),
    "utf-16": (GOOD.decode().encode("utf-16"), "InvalidUtf8"),
    "utf-16 without mark": (GOOD.decode().encode("utf-16-le"), "InvalidJson"),
    "bad utf-8 in a value": (b'{"id":"\xff"}', "InvalidUtf8"),
    "bad utf-8 in a name": (b'{"\xc3":1}', "InvalidUtf8"),
    "overlong utf-8": (b'{"id":"\xc0\xaf"}', "InvalidUtf8"),
    "utf-8 beyond unicode": (b'{"id":"\xf4\x90\x80\x80"}', "InvalidUtf8"),
    "raw surrogate": (b'{"id":"\xed\xa0\x80"}', "InvalidUtf8"),
    "lone high surrogate": (b'{"id":"\\ud800"}', "LoneSurrogate"),
    "lone low surrogate": (b'{"id":"\\udc00x"}', "LoneSurrogate"),
    "swapped surrogates": (b'{"id":"\\ude00\\ud83d"}', "LoneSurrogate"),
    "surrogate in a name": (b'{"\\ud800":1}', "LoneSurrogate"),
    "surrogate inside": (b'{"x":[{"y":"\\udfff"}]}', "LoneSurrogate"),
    "NaN": (b'{"price":NaN}', "NonFiniteNumber"),
    "Infinity": (b'{"price":Infinity}', "NonFiniteNumber"),
    "minus Infinity": (b'{"x":[-Infinity]}', "NonFiniteNumber"),
    "duplicate names": (b'{"n":1,"n":2}', "DuplicateKey"),
    "duplicate equal": (b'{"n":1,"n":1}', "DuplicateKey"),
    "duplicate, a string": (b'{"id":"a","id":"b","n":1}', "DuplicateKey"),
    "duplicate by escape": (b'{"n":1,"\\u006e":2}', "DuplicateKey"),
    "duplicate unknown": (b'{"x":1,"x":2}', "DuplicateKey"),
    "duplicate inside": (b'{"inner":{"a":1,"a":2}}', "DuplicateKey"),
    "duplicate in a list": (b'{"x":[{"a":1,"a":2}]}', "DuplicateKey"),
    "deep list": (b'{"x":' + b"[" * 64 + b"]" * 64 + b"}", "TooDeep"),
    "deep object": (b'{"x":' * 65 + b"1" + b"}" * 65, "TooDeep"),
    "very deep": (b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "TooDeep"),
    "very deep, open": (b"[" * 200_000, "TooDeep"),
    "very deep, known field": (b'{"tags":' + b"[" * 5000 + b"]" * 5000 + b"}", "TooDeep"),
    "single quotes": (b"{'n':1}", "InvalidJson"),
    "no quotes": (b"{n:1}", "InvalidJson"),
    "trailing comma": (b'{"n":1,}', "InvalidJson"),
    "trailing comma in a list": (b'{"tags":["a",]}', "InvalidJson"),
    "comment": (b'{"n":1/*x*/}', "InvalidJson"),
    "leading zero": (b'{"n":01}', "InvalidJson"),
    "plus sign": (b'{"n":+1}', "InvalidJson"),
    "point alone": (b'{"n":1.}', "InvalidJson"),
    "hexadecimal": (b'{"n":0x10}', "InvalidJson"),
    "True": (b'{"ok":True}', "InvalidJson"),
    "newline in a string": (b'{"id":"a\nb"}', "InvalidJson"),
    "tab in a string": (b'{"id":"a\tb"}', "InvalidJson"),
    "NUL in a string": (b'{"id":"a\x00b"}', "InvalidJson"),
    "bad escape": (b'{"id":"\\x41"}', "InvalidJson"),
    "bad unicode escape": (b'{"id":"\\u12"}', "InvalidJson"),
    "no-break space": (b'\xc2\xa0{"n":1}', "InvalidJson"),
    "fraction in an int": (b'{"n":1.5}', "TypeMismatch"),
    "tiny fraction in an int": (b'{"n":1.00000000000000000000000001}', "TypeMismatch"),
    "huge integer": (b'{"big":9223372036854775808}', "TypeMismatch"),
    "huge negative integer": (b'{"big":-9223372036854775809}', "TypeMismatch"),
    "2^64": (b'{"big":18446744073709551616}', "TypeMismatch"),
    "400 digits": (b'{"big":' + b"9" * 400 + b"}", "TypeMismatch"),
    "10,000 digits": (b'{"big":' + b"9" * 10_000 + b"}", "TypeMismatch"),
    "1e400 in a long": (b'{"big":1e400}', "TypeMismatch"),
    "1e400 in a double": (b'{"price":-1e400}', "TypeMismatch"),
    "a giant exponent": (b'{"price":1e999999999999999999999}', "TypeMismatch"),
    "string in a long": (b'{"big":"17"}', "TypeMismatch"),
    "string in a double": (b'{"price":"1.5"}', "TypeMismatch"),
    "string in a boolean": (b'{"ok":"true"}', "TypeMismatch"),
    "number in a boolean": (b'{"ok":1}', "TypeMismatch"),
    "boolean in an int": (b'{"n":true}', "TypeMismatch"),
    "object in a string": (b'{"id":{"a":1}}', "TypeMismatch"),
    "array in a string": (b'{"id":["a"]}', "TypeMismatch"),
    "string in a struct": (b'{"inner":"a"}', "TypeMismatch"),
    "array in a struct": (b'{"inner":[1]}', "TypeMismatch"),
    "wrong inner type": (b'{"inner":{"a":"x"}}', "TypeMismatch"),
    "object in an array": (b'{"tags":{"a":1}}', "TypeMismatch"),
    "wrong element": (b'{"tags":["a",["b"]]}', "TypeMismatch"),
    "no timestamp": (b'{"at":"yesterday"}', "TypeMismatch"),
    "empty timestamp": (b'{"at":""}', "TypeMismatch"),
    "30 February": (b'{"at":"2024-02-30T00:00:00Z"}', "TypeMismatch"),
    "leap second": (b'{"at":"2016-12-31T23:59:60Z"}', "TypeMismatch"),
    "year 0": (b'{"at":"0000-01-01T00:00:00Z"}', "TypeMismatch"),
    "year 10000 by offset": (b'{"at":"9999-12-31T23:59:59-01:00"}', "TypeMismatch"),
    "bad offset": (b'{"at":"2024-01-01T00:00:00+25:00"}', "TypeMismatch"),
    "seconds since 1970": (b'{"at":1714564800}', "TypeMismatch"),
    "boolean timestamp": (b'{"at":false}', "TypeMismatch"),
}
POISON |= {f"cut at {n}": (GOOD[:n], "InvalidJson") for n in range(1, len(GOOD))}

ILL_TYPED = [
    ("byte", "128.5"),
    ("int", "1.5"),
    ("int", "18446744073709551616"),
    ("long", "9223372036854775808"),
    ("double", "1e400"),
    ("decimal(10,2)", "1234567890123456789012345678901234567.25"),
    ("array<int>", "[1,2.5]"),
    ("struct<a:struct<b:short>>", '{"a":{"b":0.5}}'),
    ("map<string,long>", '{"a":1e30}'),
    ("string", '"\\ud800"'),
    ("array<string>", '["a","\\udc00"]'),
    ("binary", '"no base64!"'),
    ("date", '"2024-02-30"'),
    ("timestamp", '"2024-02-30T00:00:00Z"'),
    ("timestamp_ntz", '"2024-02-01T00:00:00Z"'),
    ("boolean", "1"),
]
"""Column types, and JSON that such a column cannot take."""
