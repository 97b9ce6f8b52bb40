"""Where a rule has few enough cases, all of them: the decoders agree on each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from raylake.codecs import Decoded, DecoderSpec, JsonDecoder, parse_schema
from raylake.codecs.columnar import ColumnarJsonDecoder
from tests.unit.codecs.comparing import assert_equal
from tests.unit.codecs.records import batch

BYTES = [bytes([one]) for one in range(256)]
EDGES = [bytes([one]) for one in (0x00, 0x22, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)]


def _same(column: str, texts: Iterable[bytes]) -> Decoded:
    """Both decoders make the same of these texts, each as the value of one column."""
    spec = DecoderSpec(schema=parse_schema({"x": column}), unknown_fields="rescue")
    records = batch([b'{"x":' + text + b"}" for text in texts])
    found = ColumnarJsonDecoder(spec).decode(records)
    assert_equal(found, JsonDecoder(spec).decode(records), records, "plain")
    return found


def _quoted(texts: Iterable[bytes]) -> list[bytes]:
    return [b'"' + text + b'"' for text in texts]


def test_every_escaped_code_unit_alone_and_beside_others() -> None:
    units = [b"\\u%04x" % unit for unit in range(0x10000)]
    found = _same("string", _quoted(units))
    assert len(found.dead) == 0x800
    edges = [b"\\u%04X" % u for u in (0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0x41)]
    _same("string", _quoted(b"".join(some) for some in product([*edges, b"x", b"\\n"], repeat=3)))


def test_every_escaped_letter() -> None:
    found = _same("string", _quoted(b"\\" + one for one in BYTES))
    assert len(found.kept) == 8
    _same("string", _quoted(b"\\" + one + b"0041" for one in BYTES))
    _same("string", _quoted(b"\\u" + b"00" + one + b"1" for one in BYTES))


def test_every_byte_and_pair_of_bytes_in_a_string() -> None:
    _same("string", _quoted(BYTES))
    pairs = [one + other for one in (b"\x1f", b"\x20", b"\x7f", *BYTES[0x80:]) for other in BYTES]
    # Two ways through the scanner: by words, and byte by byte.
    _same("string", _quoted(pairs))
    _same("string", _quoted(b"0123456" + pair + b"0123456789" for pair in pairs))


def test_utf8_of_three_and_four_bytes_at_all_edges() -> None:
    three = [b"".join(some) for some in product(BYTES[0xDF:0xF1], BYTES, EDGES[3:6])]
    _same("string", _quoted(three))
    four = [b"".join(some) for some in product(BYTES[0xEF:0xF6], EDGES, EDGES, EDGES)]
    _same("string", _quoted(four))


def test_every_byte_between_tokens() -> None:
    places = [b'%s{"x":1}', b'{%s"x":1}', b'{"x"%s:1}', b'{"x":%s1}', b'{"x":1%s}', b'{"x":1}%s']
    spec = DecoderSpec(schema=parse_schema({"x": "long"}), unknown_fields="rescue")
    records = batch([place % one for place in places for one in BYTES])
    found = ColumnarJsonDecoder(spec).decode(records)
    assert_equal(found, JsonDecoder(spec).decode(records), records, "plain")
    # Four kinds of white space everywhere, and the digits beside the number, a sign before it.
    assert len(found.kept) == 6 * 4 + 9 + 1 + 10


def test_every_month_and_day() -> None:
    texts = [
        b"%04d-%02d-%02d" % (year, month, day)
        for year in (0, 1, 4, 100, 400, 1600, 1900, 1969, 1970, 2000, 2023, 2024, 9999)
        for month in range(14)
        for day in range(33)
    ]
    found = _same("date", _quoted(texts))
    assert len(found.kept) == 12 * 365 + 5
    _same("timestamp", _quoted(text + b"T00:00:00Z" for text in texts))
    _same("timestamp_ntz", _quoted(text + b" 23:59" for text in texts))


def test_every_clock_and_offset() -> None:
    day = b"2024-02-29T"
    clocks = [b"%02d:30:30" % n for n in range(100)] + [b"12:%02d:30" % n for n in range(100)]
    clocks += [b"12:30:%02d" % n for n in range(100)]
    clocks += [b"12:30:30." + b"1" * n for n in range(33)] + [
        b"12:30:30.%06d" % 10**n for n in range(6)
    ]
    _same("timestamp_ntz", _quoted(day + clock for clock in clocks))
    zones = [b"%c%02d%s%02d" % (sign, h, colon, m) for sign in b"+-" for h in range(26)
             for colon in (b"", b":") for m in (0, 1, 59, 60, 99)]  # fmt: skip
    zones += [b"%c%02d" % (sign, h) for sign in b"+-" for h in range(26)]
    _same("timestamp", _quoted(day + b"12:30:30" + zone for zone in zones))
    edges = [b"0001-01-01T00:00:00", b"9999-12-31T23:59:59.999999"]
    _same("timestamp", _quoted(edge + zone for edge in edges for zone in zones))
    whole = day + b"12:30:30.123456+01:30"
    _same(
        "timestamp",
        _quoted(whole[:at] + one + whole[at + 1 :] for at in range(len(whole)) for one in BYTES),
    )


def test_small_numbers_in_every_spelling() -> None:
    parts = [["", "-", "+", "--"], ["", "0", "00", "1", "01", "10", "127", "128", "255"]]
    parts += [
        ["", ".", ".0", ".5", ".00", ".50", ".05"],
        ["", "e0", "E+1", "e-1", "e", "e+", "e2", "e00"],
    ]
    texts = ["".join(some).encode() for some in product(*parts)]
    columns = ["byte", "short", "int", "long", "float", "double", "string", "boolean", "timestamp"]
    for column in [*columns, "decimal(3,0)", "decimal(3,2)", "decimal(18,2)", "decimal(38,2)"]:
        _same(column, texts)
        _same(column, _quoted(texts))


def test_numbers_of_every_length() -> None:
    texts = []
    for size in (*range(1, 24), 37, 38, 39, 44):
        for digits in ("1" * size, "9" * size, "1" + "0" * (size - 1), "123456789"[:size] * size):
            texts += [digits, f"-{digits}", f"0.{digits}", f"{digits}.5", f"{digits}e-{size}"]
            texts += [f"{digits[:at]}.{digits[at:]}" for at in range(1, len(digits), 3)]
    encoded = [text.encode() for text in texts]
    for column in ("long", "float", "double", "decimal(9,2)", "decimal(18,18)", "decimal(38,10)"):
        _same(column, encoded)


def test_base64_of_four_letters_with_every_byte_at_each_place() -> None:
    for whole in (b"QUJD", b"QUI=", b"QQ==", b"QUJDQUJD", b"+/+/"):
        texts = [whole[:at] + one + whole[at + 1 :] for at in range(len(whole)) for one in BYTES]
        _same("binary", _quoted(texts))
        _same("binary", _quoted(whole[:at] for at in range(len(whole))))
