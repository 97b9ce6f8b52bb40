"""The demo's order events: what is sent to which partition, from a seed alone.

Everything here is a pure function of :class:`StreamPlan` and a place in the stream, so that any
number of processes produce the same records and a failing run can be produced again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raylake.demo import poison

SCHEMA: dict[str, str] = {
    "order_id": "string",
    "customer_id": "string",
    "country": "string",
    "segment": "string",
    "quantity": "long",
    "amount": "string",
    "ordered_at": "timestamp",
    "updated_at": "timestamp",
}
"""The events' fields before ``channel`` appears in the middle of the stream."""

NEW_FIELD = "channel"
CHUNK_RECORDS = 5_000
"""Records of one partition that are planned together."""

ROW, DEAD, ABORTED = "row", "dead", "aborted"

SHARES = {
    "committed_transaction": 0.005,
    "aborted_transaction": 0.005,
    "malformed": 0.005,
    "tombstone": 0.002,
    "late": 0.01,
    "far_future": 0.001,
    "headers": 0.02,
    "unusual_text": 0.005,
    "wider_value": 0.001,
    "null_key": 0.002,
    "duplicate": 0.01,
    "out_of_order": 0.01,
    "not_convertible": 0.003,
    "breaks_rule": 0.003,
}
"""Share of the records of each kind; every full chunk has at least one of each.

The last four are for silver: the value of an earlier record once more; an update with an earlier
``updated_at`` than what it comes after; rows of bronze that silver turns away.
"""

_HALF_OF = {"committed_transaction": 0, "aborted_transaction": 1}
_COUNTRIES = np.array(["DE", "NO", "US", "FR", "NL", "SE", "JP", "BR", "IN", "ZA"])
_COUNTRY_WEIGHTS = np.array([18, 14, 22, 10, 8, 7, 8, 5, 5, 3]) / 100
_SEGMENTS = np.array(["consumer", "business", "education", "public"])
_CHANNELS = np.array(["web", "app", "store", "phone"])
_HOUR_MS = 3_600_000
_NO_AMOUNTS = ("12,50", "a lot", "", "1.999")


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What decides every byte of the stream.

    Attributes:
        seed: Seed of all choices.
        count: Records in all partitions together, aborted ones included.
        partitions: Number of partitions.
        start_ms: Record timestamp of the first record, in ms since the epoch. Keep it near the
            present, since brokers drop what is older than their retention.
        span_ms: Record timestamps run from ``start_ms`` over this many ms.
    """

    seed: int
    count: int
    start_ms: int
    partitions: int = 4
    span_ms: int = _HOUR_MS

    def records_in(self, partition: int) -> int:
        """How many records ``partition`` receives."""
        return self.count // self.partitions + (partition < self.count % self.partitions)


class Planned(NamedTuple):
    """One record that is to be sent, and what must become of it.

    Attributes:
        key: The key's bytes or None.
        value: The value's bytes; None makes a tombstone.
        headers: Names and values, in order, names may repeat.
        timestamp_ms: The record's timestamp, in ms since the epoch.
        kind: ``event``, ``new_field``, a key of :data:`SHARES`, or ``malformed:<poison>``.
        fate: ``row`` (in the table), ``dead`` (a dead letter) or ``aborted`` (neither).
        transaction: ``""``, ``commit`` or ``abort``.
    """

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int
    kind: str
    fate: str
    transaction: str


def chunks(plan: StreamPlan, partition: int) -> Iterator[list[Planned]]:
    """The records of one partition, in order, :data:`CHUNK_RECORDS` at a time."""
    total = plan.records_in(partition)
    for number, start in enumerate(range(0, total, CHUNK_RECORDS)):
        stop = min(start + CHUNK_RECORDS, total)
        yield _chunk(plan, partition, number, range(start, stop))


def _chunk(plan: StreamPlan, partition: int, number: int, places: range) -> list[Planned]:
    rng = np.random.default_rng([plan.seed, partition, number])
    total = plan.records_in(partition)
    stamps = plan.start_ms + np.arange(places.start, places.stop) * plan.span_ms // max(1, total)
    kinds = _kinds(rng, len(places), number)
    texts = _texts(rng, partition, places, stamps, kinds, total // 2)
    stamp_list = stamps.tolist()
    planned = []
    for i, text in enumerate(texts):
        key = text[13 : text.index('"', 13)].encode()
        kind = kinds.get(i)
        if kind is None:
            name = "event" if places[i] < total // 2 else "new_field"
            planned.append(Planned(key, text.encode(), [], stamp_list[i], name, ROW, ""))
        else:
            planned.append(_special(kind, key, text, stamp_list[i], places[i] + 7 * partition))
    return planned


def _kinds(rng: np.random.Generator, size: int, number: int) -> dict[int, str]:
    """Which places of a chunk are special.

    The two transactions of a chunk lie in its two halves, so that one producer can hold one open
    at a time while others write between its records; they swap sides from chunk to chunk.
    """
    cut = size // 2
    halves = [rng.permutation(cut).tolist(), (cut + rng.permutation(size - cut)).tolist()]
    if number % 2:
        halves.reverse()
    kinds: dict[int, str] = {}
    for turn, (kind, share) in enumerate(SHARES.items()):
        places = halves[_HALF_OF.get(kind, turn % 2)]
        for _ in range(min(math.ceil(share * size), len(places))):
            kinds[places.pop()] = kind
    return kinds


def _texts(
    rng: np.random.Generator,
    partition: int,
    places: range,
    stamps: np.ndarray,
    kinds: dict[int, str],
    new_field_from: int,
) -> list[str]:
    """The JSON text of each record of a chunk, before any of it is broken."""
    size = len(places)
    behind = rng.integers(50, 60_000, size)
    stale = np.zeros(size, np.int64)
    for i, kind in kinds.items():
        if kind == "late":
            behind[i] = rng.integers(_HOUR_MS, 48 * _HOUR_MS)
        elif kind == "far_future":
            behind[i] = -int(rng.choice([400 * 24, 24 * 365 * 500])) * _HOUR_MS
    ordered = np.datetime_as_string((stamps - behind).astype("datetime64[ms]")).tolist()
    # One event in ten is an update of an earlier order.
    back = np.where(rng.random(size) < 0.1, rng.integers(1, 2_000, size), 0)
    for i, kind in kinds.items():
        if kind == "out_of_order":
            back[i], stale[i] = rng.integers(1, 2_000), rng.integers(1_000, 60_000)
    updated = np.datetime_as_string((stamps - stale).astype("datetime64[ms]")).tolist()
    orders = np.maximum(np.arange(places.start, places.stop) - back, 0).tolist()
    customers = np.minimum(rng.zipf(1.3, size), 200_000).tolist()
    countries = rng.choice(_COUNTRIES, size, p=_COUNTRY_WEIGHTS).tolist()
    segments = rng.choice(_SEGMENTS, size).tolist()
    quantities = rng.integers(1, 40, size).tolist()
    cents = (rng.lognormal(8.5, 1.2, size)).astype(np.int64).tolist()
    channels = rng.choice(_CHANNELS, size).tolist()
    texts = [
        f'{{"order_id":"o{partition}-{order:09d}","customer_id":"c{customer:06d}",'
        f'"country":"{country}","segment":"{segment}","quantity":{quantity},'
        f'"amount":"{cent / 100:.2f}","ordered_at":"{at}Z","updated_at":"{upd}Z"'
        + (f',"{NEW_FIELD}":"{channel}"}}' if place >= new_field_from else "}")
        for place, order, customer, country, segment, quantity, cent, at, upd, channel in zip(
            places, orders, customers, countries, segments, quantities, cents, ordered, updated,
            channels, strict=True,
        )
    ]  # fmt: skip
    for i, kind in kinds.items():
        if kind == "duplicate":
            texts[i] = texts[max(0, i - int(rng.integers(1, 200)))]
    return texts


def _special(kind: str, key: bytes, text: str, stamp: int, turn: int) -> Planned:
    """A record of one of the kinds of :data:`SHARES`; ``turn`` rotates through its variants."""
    value, plain = text.encode(), Planned(key, text.encode(), [], stamp, kind, ROW, "")
    broken = poison.NAMES[turn % len(poison.NAMES)]
    if kind == "malformed":
        broken_value = poison.poison(broken, text)
        return plain._replace(value=broken_value, kind=f"{kind}:{broken}", fate=DEAD)
    if kind in _VALUES:
        return plain._replace(value=_VALUES[kind](text, turn))
    if kind == "null_key":
        return plain._replace(key=None)
    if kind == "headers":
        trace = f"00-{turn:032x}-{turn:016x}-01".encode()
        headers = [("traceparent", trace), ("source", b"shop"), ("source", b""), ("hint", b"")]
        return plain._replace(headers=headers)
    if kind == "committed_transaction":
        return plain._replace(transaction="commit")
    if kind == "aborted_transaction":
        variants = (value, value, poison.poison(broken, text), None)
        return plain._replace(value=variants[turn % 4], fate=ABORTED, transaction="abort")
    return plain


def _unusual(text: str, turn: int) -> bytes:
    """Valid JSON that careless decoders break: spacing, escapes, text beyond ASCII, null."""
    variants = (
        text.replace(",", " ,\n\t").replace(":{", " : {"),
        text.replace("consumer", "cons\\u0075mer").replace("business", "b\\u00fcsiness"),
        text.replace("consumer", "Größe 🛒 \\ud83d\\ude00").replace("public", "öffentlich"),
        text.replace("consumer", 'a\\"b\\\\c\\n\\/').replace("education", ""),
        text.replace('"segment":"consumer"', '"segment":null'),
    )
    return variants[turn % len(variants)].encode()


def _broken_rule(text: str, turn: int) -> bytes:
    if turn % 2:
        return poison.without_customer(text)
    return poison.with_amount(text, f"-{turn}.50")


_VALUES: dict[str, Callable[[str, int], bytes | None]] = {
    "tombstone": lambda _text, _turn: None,
    "unusual_text": _unusual,
    "wider_value": lambda text, _turn: poison.with_fraction(text),
    "not_convertible": lambda text, turn: poison.with_amount(text, _NO_AMOUNTS[turn % 4]),
    "breaks_rule": _broken_rule,
}
"""What is sent in place of an event's text, of kinds that differ in nothing else."""
