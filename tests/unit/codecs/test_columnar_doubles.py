"""Numbers of many digits in columns of doubles: the columnar decoder agrees, and vouches."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from random import Random

import pytest

from raylake.codecs import DecoderSpec, JsonDecoder, parse_schema
from raylake.codecs.columnar import ColumnarJsonDecoder
from tests.unit.codecs.comparing import assert_equal
from tests.unit.codecs.records import batch

EDGES = [
    *["9007199254740991", "9007199254740993", "9007199254740994", "9007199254740993.0"],
    *["9007199254740993e0", "900719925474099.3e1", "9007199254740992.0", "12345678901234568"],
    *["12345678901234567", "9223372036854775807", "1152921504606846976", "9999999999999999"],
    *["1e22", "1e23", "1e+23", "9.999999999999999e22", "123e40", "1e-40", "1e99999", "1e-99999"],
    *["5e-324", "4.9406564584124654e-324", "2.2250738585072011e-308", "2.2250738585072014e-308"],
    *["2.225073858507201e-308", "1.7976931348623157e308", "1.7976931348623158e308"],
    *["1.7976931348623159e308", "5.684341886080801e-14", "5.684341886080802e-14"],
    *["0", "-0", "-0.0", "0e5", "-0e-30", "0.00000000000000000000000000", "1.0000000000000000"],
    *["0.1000000000000000055511151231257827", "0.1000000000000000055", "0.10000000000000001"],
    *["0.000001234567890123456", "0.00000000000000000000000012345678901234567"],
    *["2.0000000000000000000", "123456789.123456789", "-0.30000000000000004"],
]


def _vouched(texts: Sequence[str], column: str = "double") -> float:
    """The share that the kernel decides; all is the same as by the plain decoder."""
    spec = DecoderSpec(schema=parse_schema({"x": column}), unknown_fields="rescue")
    records = batch([b'{"x":%s}' % text.encode() for text in texts])
    found = ColumnarJsonDecoder(spec).decode(records)
    assert_equal(found, JsonDecoder(spec).decode(records), records, "plain")
    assert found.by_row is not None
    return 1 - len(found.by_row) / len(texts)


@pytest.mark.parametrize("column", ["double", "float", "decimal(38,20)", "long"])
def test_edges_of_doubles(column: str) -> None:
    _vouched([*EDGES, *(text.removeprefix("-") for text in EDGES)], column)


def test_computed_numbers_are_vouched_for() -> None:
    random = Random("computed")
    numbers = [
        *(random.random() for _ in range(1500)),
        *(random.uniform(-180, 180) for _ in range(1500)),
        *(random.gauss(0, 1) for _ in range(1500)),
        *(random.randint(1, 99_999) / 100 * 1.19 for _ in range(1500)),
        *(1 / random.randint(1, 10**9) for _ in range(1500)),
    ]
    assert _vouched([json.dumps(number) for number in numbers]) > 0.998
    assert _vouched([f"{number:.16e}" for number in numbers]) > 0.998


def test_negative_zero_and_short_numbers_of_any_size_are_vouched_for() -> None:
    random = Random("short")
    texts = ["-0", "-0.0", "0", "0e5", "-0.000", "0.5000000000000000000"]
    texts += [f"{random.randint(1, 10**15 - 1)}e{random.randint(-300, 290)}" for _ in range(500)]
    assert _vouched(texts) == 1


def test_numbers_around_every_power_of_two() -> None:
    texts = []
    for exponent in range(-1074, 1024, 3):
        power = math.ldexp(1.0, exponent)
        below, above = math.nextafter(power, 0), math.nextafter(power, math.inf)
        texts += [repr(number) for number in (below, power, above)]
        for digits in (14, 15, 16):
            place = Decimal(f"1e{Decimal(power).adjusted() - digits}")
            near = Decimal(f"{power:.{digits}e}")
            texts += [str(near), str(near + place), str(near - place)]
    _vouched(texts)


def test_numbers_half_way_between_doubles() -> None:
    random = Random("half way")
    texts = []
    for _ in range(1000):
        one = random.random() * 10 ** random.randint(-20, 20)
        half = (Decimal(one) + Decimal(math.nextafter(one, math.inf))) / 2
        texts += [f"{half:.{digits}e}" for digits in (14, 15, 16, 17)]
    _vouched(texts)


def test_decimals_of_too_many_digits_are_rescued_not_rounded() -> None:
    random = Random("digits")
    texts = []
    for _ in range(3000):
        digits = str(random.randint(10**15, 10**19))
        point = random.randint(1, len(digits) - 1)
        texts.append(f"{digits[:point]}.{digits[point:]}e{random.randint(-30, 30)}")
        texts.append(digits)
    _vouched(texts)
