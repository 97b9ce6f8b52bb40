"""JSON messages for a schema, made with any ``random.Random``: good, odd and broken ones.

Hypothesis's own ``st.randoms()`` is such a one, so that what is drawn here shrinks; a seeded one
makes the same messages much quicker, for tests in bulk.
"""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pyarrow as pa

from tests.property.json_pieces import (
    BAD_UTF8,
    BROKEN,
    FRAGMENTS,
    GOOD_OFFSETS,
    NAMES,
    NUMBERS,
    ODD_DAYS,
    ODD_STRINGS,
    OFFSETS,
    SPACES,
    TEXTS,
)

DECIMALS = [(1, 0), (1, 1), (9, 2), (10, 0), (18, 2), (18, 18), (19, 4), (28, 10)]
DECIMALS += [(38, 0), (38, 10), (38, 37), (38, 38)]
SCALARS = [
    pa.string(),
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.date32(),
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("us"),
    pa.binary(),
    *[pa.decimal128(*one) for one in DECIMALS],
]
FREQUENT = [pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC"), pa.bool_()]
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class Making:
    """Makes schemas and messages.

    Args:
        random: Where all choices come from.
        odd: How often a value is not what its column asks for, from 0 to 1.
    """

    def __init__(self, random: Random, odd: float = 0.05) -> None:
        self.random = random
        self.odd = odd
        self.spaced = False
        self.calm = self.plain = False

    # schemas

    def schema(self, max_columns: int = 20) -> pa.Schema:
        """Columns of every type under awkward names; none at all now and then."""
        count = self.random.choice([0, 1, 1, 2, 3, 4, 6, 9, max_columns])
        names = [name for name in self.names(min(count, max_columns)) if not name.startswith("_")]
        return pa.schema([pa.field(name, self.type(0)) for name in names])

    def names(self, count: int) -> list[str]:
        """Names of fields, each once."""
        found: dict[str, None] = {}
        awkward = self.random.choice([0, 0, 0.3, 0.8])
        while len(found) < count:
            odd = self.random.random() < awkward
            name = self.random.choice(NAMES) if odd else f"c{len(found)}"
            found[name if name not in found else f"{name}{len(found)}"] = None
        return list(found)

    def type(self, depth: int) -> pa.DataType:
        """A type; structs, arrays and maps nest up to three deep."""
        r = self.random
        kind = r.random()
        if depth > 2 or kind < 0.4:
            return r.choice(SCALARS)
        if kind < 0.7:
            return r.choice(FREQUENT)
        if kind < 0.8:
            return pa.list_(self.type(depth + 1))
        if kind < 0.85:
            return pa.map_(pa.string(), self.type(depth + 1))
        names = self.names(r.choice([0, 1, 2, 3, 5]) if depth else r.choice([1, 2, 3]))
        return pa.struct([pa.field(name, self.type(depth + 1)) for name in names])

    # messages

    def value(self, schema: pa.Schema) -> bytes | None:
        """A record's value: mostly a good message, else an odd or a broken one, or null."""
        r = self.random
        kind = r.random()
        if kind < 0.05:
            return None
        if kind < 0.10:
            return r.choice(BROKEN)
        message = self.message(schema)
        return self.broken(message) if kind < 0.25 else message

    def message(self, schema: pa.Schema) -> bytes:
        """An object for the columns: plain, good in rare spellings, or with odd values."""
        mood = self.random.random()
        self.spaced = self.random.random() < 0.2
        self.plain = mood < 0.5
        self.calm = mood < 0.7
        text = self.space() + self._object(list(schema), 1) + self.space()
        return text.encode("utf-8", "surrogatepass")

    def broken(self, message: bytes) -> bytes:
        """A message with something wrong at one place or at two."""
        for _ in range(self.random.choice([1, 1, 1, 2])):
            message = self._damaged(message)
        return message

    def _damaged(self, message: bytes) -> bytes:
        r = self.random
        at = r.randrange(len(message) + 1)
        kind = r.randrange(8)
        if kind == 0:
            return message[:at]
        if kind == 1:
            return message[:at] + bytes([r.randrange(256)]) + message[at + 1 :]
        if kind == 2:
            return message[:at] + bytes([r.randrange(256)]) + message[at:]
        if kind == 3:
            return message[:at] + message[at + r.choice([1, 1, 1, 2, 5]) :]
        if kind == 4:
            return message[:at] + r.choice(BAD_UTF8) + message[at:]
        if kind == 5:
            return message[:at] + r.choice(FRAGMENTS) + message[at:]
        if kind == 6:
            other = r.randrange(len(message) + 1)
            return message[:at] + message[other : other + 12] + message[at:]
        return message + r.choice([message, *FRAGMENTS])

    def _object(self, fields: list[pa.Field], depth: int) -> str:
        r = self.random
        members = [
            (field.name, self.of_type(field.type, depth)) for field in fields if r.random() < 0.85
        ]
        if r.random() < 0.5:
            r.shuffle(members)
        if not self.calm and r.random() < self.odd:
            names = [r.choice(NAMES), f"u{r.randrange(4)}", "_offset"]
            members.insert(r.randrange(len(members) + 1), (r.choice(names), self.anything(depth)))
        if members and not self.calm and r.random() < self.odd / 4:
            name, text = r.choice(members)
            members.append((name, r.choice([text, "null", self.anything(depth)])))
        inner = ",".join(
            f"{self.space()}{self._name(name)}{self.space()}:{self.space()}{text}{self.space()}"
            for name, text in members
        )
        return "{" + (inner or self.space()) + "}"

    def _name(self, name: str) -> str:
        """A member's name; now and then as it is, be that JSON or not."""
        if not self.calm and self.random.random() < self.odd:
            return f'"{name}"'
        return self.spelled(name)

    def of_type(self, dtype: pa.DataType, depth: int) -> str:
        """The text of a value for a column."""
        r = self.random
        if r.random() < 0.05:
            return "null"
        if not self.calm and r.random() < self.odd:
            return self.anything(depth)
        if pa.types.is_struct(dtype):
            return self._object(list(dtype), depth + 1)
        if pa.types.is_list(dtype):
            return self._list(dtype.value_type, depth + 1)
        if pa.types.is_map(dtype):
            names = self.names(r.choice([0, 1, 2, 4]))
            return self._object([pa.field(name, dtype.item_type) for name in names], depth + 1)
        return self._scalar(dtype)

    def _list(self, dtype: pa.DataType, depth: int) -> str:
        length = self.random.choice([0, 1, 1, 2, 3, 8])
        items = [self.space() + self.of_type(dtype, depth) + self.space() for _ in range(length)]
        return "[" + (",".join(items) or self.space()) + "]"

    def _scalar(self, dtype: pa.DataType) -> str:
        t = pa.types
        if t.is_string(dtype):
            return self.string()
        if t.is_boolean(dtype):
            return self.random.choice(["true", "false"])
        if t.is_integer(dtype):
            return self.integer(dtype.bit_width)
        if t.is_floating(dtype):
            return self.number()
        if t.is_decimal(dtype):
            return self.decimal(dtype.precision, dtype.scale)
        if t.is_date(dtype):
            return self.spelled(self.day())
        if t.is_timestamp(dtype):
            return self.instant(zoned=dtype.tz is not None)
        return self.base64()

    def anything(self, depth: int = 0) -> str:
        """A JSON value of any kind."""
        r = self.random
        kind = r.randrange(9 if depth < 4 else 7)
        if kind < 2:
            return r.choice(NUMBERS)
        if kind < 4:
            return self.string()
        if kind == 7:
            return self._list(r.choice(SCALARS), depth + 1)
        if kind == 8:
            return self._object([pa.field(n, r.choice(SCALARS)) for n in self.names(2)], depth + 1)
        return r.choice(["null", "true", "false", "{}", "[]", "[null]", '{"a":{}}', "[[[]]]"])

    # scalars

    def string(self) -> str:
        """A string's text."""
        r = self.random
        text = r.choice(TEXTS) if r.random() < 0.5 else f"word{r.randrange(1000)}"
        text += r.choice(TEXTS) if r.random() < 0.2 else ""
        if not self.calm and r.random() < self.odd:
            return r.choice(ODD_STRINGS)
        if r.random() < 0.7:
            return self.spelled(text)
        return json.dumps(text) if r.random() < 0.5 else self.escaped(text)

    def spelled(self, text: str) -> str:
        """A text as JSON, its characters plain or escaped in any way that there is."""
        r = self.random
        if self.plain or r.random() < 0.6:
            return json.dumps(text, ensure_ascii=not self.plain and r.random() < 0.2)
        return self.escaped(text)

    def escaped(self, text: str) -> str:
        """A text as JSON, some of its characters escaped."""
        often = self.random.random()
        return '"' + "".join(self._character(one, often) for one in text[:400]) + '"'

    def _character(self, one: str, often: float) -> str:
        r = self.random
        if one >= " " and one not in '"\\' and r.random() > often:
            return one
        if one in _SHORT and r.random() < 0.5:
            return _SHORT[one]
        if one == "/":
            return "\\/"
        units = one.encode("utf-16-be", "surrogatepass")
        codes = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
        return "".join("\\u" + (code.upper() if r.random() < 0.5 else code) for code in codes)

    def number(self) -> str:
        """A number's text."""
        r = self.random
        kind = r.random()
        if kind < 0.35 and not self.calm:
            return r.choice(NUMBERS)
        if kind < 0.6 or self.calm:
            return repr(round(r.uniform(-1000, 1000), r.randrange(6)))
        if kind < 0.8:
            return repr(r.uniform(-1, 1) * 10.0 ** r.randrange(-320, 308))
        whole = str(r.randrange(10 ** r.randrange(1, 20)))
        digits = "." + str(r.randrange(10 ** r.randrange(1, 20))) if r.random() < 0.6 else ""
        power = r.choice(["", "", "", "e5", "E-5", "e+22", f"e{r.randrange(-330, 310)}"])
        return r.choice(["", "-"]) + whole + digits + power

    def integer(self, bits: int) -> str:
        """An integer's text, mostly within so many bits."""
        r = self.random
        kind = 1 if self.calm else r.random()
        if kind < 0.25:
            return r.choice(NUMBERS)
        edge = 2 ** (bits - 1)
        if kind < 0.4:
            return str(r.choice([edge, -edge, 0]) + r.randrange(-2, 3))
        value = r.randrange(-edge, edge) >> r.randrange(bits)
        rare = ["", "", "", "", "", ".0", "e0", ".00e2"]
        return str(value) + ("" if self.plain else r.choice(rare))

    def decimal(self, precision: int, scale: int) -> str:
        """A decimal, as a number or as a text."""
        r = self.random
        most = 9 if self.plain else 38
        whole = str(r.randrange(10 ** r.randrange(min(precision - scale, most) + 1)))
        fraction = r.randrange(min(scale, most) + 1)
        if not self.calm:
            fraction += r.choice([0, 0, 0, 0, 1, 2])
        text = r.choice(["", "-"]) + whole
        if fraction:
            text += "." + str(r.randrange(10**fraction)).rjust(fraction, "0")
        if self.calm:
            return text if r.random() < 0.5 else self.spelled(text)
        text += r.choice(["", "", "", "0", "e0", "e1", "E-1"] if fraction else ["", "", "e1"])
        if r.random() < 0.25:
            text = r.choice(NUMBERS)
        if r.random() < 0.5:
            return text
        return self.spelled(r.choice(["", "", "", "", "", "", " ", "+", "0"]) + text)

    def day(self) -> str:
        """A date; now and then one that does not exist."""
        r = self.random
        if self.calm or r.random() < 0.7:
            year = r.choice([1970, 1969, 2024, 2023, 2000, 1900, 1, 9999, r.randrange(1, 9999)])
            return f"{year:04}-{r.randrange(1, 13):02}-{r.randrange(1, 29):02}"
        return r.choice(ODD_DAYS)

    def instant(self, *, zoned: bool) -> str:
        """A timestamp's text, in some form of ISO 8601 or near it, or a number."""
        r = self.random
        if not self.calm and r.random() < 0.08:
            return r.choice([*NUMBERS, str(r.randrange(10**11, 10**14)), "1714564800123.0"])
        clock = f"{r.randrange(24):02}:{r.randrange(60):02}"
        if not self.calm and r.random() < 0.05:
            clock = r.choice(["24:00", "23:60", "1:00", "0100", "23:59:60", "00:00:61"])
        if r.random() < 0.9:
            clock += f":{r.randrange(60):02}"
            if r.random() < 0.5:
                digits = r.choice([1, 2, 3, 3, 3, 4, 5, 6, 6, 6])
                if not self.calm:
                    digits = r.choice([0, digits, digits, 7, 8, 9, 12, 30, 31])
                clock += "." + "".join(r.choice("00123456789") for _ in range(digits))
        zones = GOOD_OFFSETS if self.calm else OFFSETS
        zone = r.choice(zones) if zoned or (not self.calm and r.random() < 0.1) else ""
        between = r.choice(["T", "T", " "] if self.calm else ["T", "T", "T", " ", "t"])
        return self.spelled(self.day() + between + clock + zone)

    def base64(self) -> str:
        """Base64, now and then not."""
        r = self.random
        text = base64.b64encode(bytes(r.randrange(256) for _ in range(r.randrange(12)))).decode()
        kind = 1 if self.calm else r.random()
        if kind < 0.1:
            text = text.rstrip("=")
        elif kind < 0.2:
            at = r.randrange(len(text) + 1)
            text = text[:at] + r.choice(["=", "\n", " ", "-", "_", "é", "A", "=="]) + text[at:]
        elif kind < 0.25:
            text = r.choice(["QQ==", "QR==", "QUI=", "QUJ=", "====", "=", "A", "AA=A", "AAAAA==="])
        return self.spelled(text)

    def space(self) -> str:
        """White space between tokens, in some messages."""
        return self.random.choice(SPACES) if self.spaced else ""


def messages(random: Random, schema: pa.Schema, count: int, odd: float = 0.05) -> list[Any]:
    """So many values for a schema."""
    making = Making(random, odd)
    return [making.value(schema) for _ in range(count)]
