"""Silver tables follow their source: any cut into steps, any order, the same table (D1, D2, D3)."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylake.layers.row_spec import RowWiseSpec
from raylake.layers.source_parts import Limit
from raylake.tables.requests import Append, Create, Delete, Read, Restore, Scd2, Update, Upsert
from raylake.tables.scd2 import no_tombstones
from raylake.tables.upkeep_requests import AddColumns, Compact, Vacuum
from tests.harness.derived_steps import ENGINE, Stepper, bronze, minute, put
from tests.harness.versions_oracle import expected_versions

PAYLOAD = pa.schema(
    [
        ("id", pa.string()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
        ("amount", pa.string()),
        ("score", pa.float64()),
    ]
)
SPEC = RowWiseSpec("silver.t", "upsert", keys=("id",), sequence_by=("updated_at",))
Event = dict[str, Any]


def _event(raw: tuple[Any, ...], offset: int) -> Event:
    key, sequence, moment, partition, amount, score, dead = raw
    event: Event = {
        "id": key,
        "updated_at": None if sequence is None else minute(sequence),
        "amount": amount,
        "score": score,
        "_topic": "t",
        "_partition": partition,
        "_offset": offset,
        "_timestamp": minute(moment),
        "_key": key.encode(),
        "_tombstone": dead,
    }
    return event | dict.fromkeys(PAYLOAD.names) if dead else event


AMOUNTS = st.sampled_from(["1", "2.50", "0"])
RAW = st.tuples(
    st.sampled_from("abc"),
    st.none() | st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 1),
    AMOUNTS,
    st.sampled_from([None, math.nan, 0.5]),
    st.sampled_from([False, False, False, True]),
)
EVENTS = st.lists(RAW, max_size=10).map(lambda raws: [_event(r, n) for n, r in enumerate(raws)])


def _key_of(event: Event) -> str:
    return event["_key"].decode() if event["_tombstone"] else event["id"]


def _rank(event: Event) -> tuple[Any, ...]:
    """Its place among the events of its key; a tombstone's sequence is its record's time."""
    sequence = event["_timestamp"] if event["_tombstone"] else event["updated_at"]
    first = (0,) if sequence is None else (1, sequence)
    return (first, event["_timestamp"], event["_topic"], event["_partition"], event["_offset"])


def latest(events: Iterable[Event]) -> dict[str, Event]:
    """The greatest event of each key; those that are deletes are left out."""
    found: dict[str, Event] = {}
    for event in events:
        known = found.get(_key_of(event))
        if known is None or _rank(event) > _rank(known):
            found[_key_of(event)] = event
    return {key: event for key, event in found.items() if not event["_tombstone"]}


def shown(rows: Iterable[Mapping[str, Any]], *names: str) -> list[str]:
    # NaN is no NaN's equal, but its text is.
    return sorted(repr([_plain(row.get(name)) for name in names]) for row in rows)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else value


COLUMNS = ("id", "updated_at", "amount", "score", "_offset", "_partition", "_timestamp")
REVIVED = [
    _event(("a", 1, 1, 0, "1", None, False), 0),
    _event(("a", None, 3, 0, None, None, True), 1),
    _event(("a", 2, 4, 0, "2.50", None, False), 2),
    _event(("a", 4, 4, 0, "0", None, False), 3),
]


LATE = [
    _event(("a", None, 1, 0, None, None, True), 1),
    _event(("a", None, 3, 0, None, None, True), 3),
    _event(("a", 2, 2, 0, "1", None, False), 2),
    _event(("b", None, 3, 0, None, None, True), 5),
    _event(("b", 1, 1, 0, "1", None, False), 0),
]


@pytest.mark.spec("D1", "D4")
@settings(max_examples=15)
@given(EVENTS, st.randoms(use_true_random=False), st.lists(st.integers(1, 12), max_size=3))
@example(REVIVED, None, [2, 3])
@example(REVIVED[::-1], None, [1, 2, 3])
@example(LATE, None, [1, 2, 4])
def test_property_07_deduplication_by_key_is_the_same_in_any_order(
    events: list[Event], randoms: Any, cuts: list[int]
) -> None:
    # Everything comes, some of it twice, in any order and in any portions.
    arriving = list(events)
    if randoms is not None:
        arriving += randoms.sample(events, len(events) // 2)
        randoms.shuffle(arriving)
    with tempfile.TemporaryDirectory() as folder:
        source = bronze(Path(folder, "bronze"), PAYLOAD)
        table = Stepper(SPEC, source, Path(folder, "silver"))
        for start, end in itertools.pairwise([0, *sorted(cuts), len(arriving)]):
            if arriving[start:end]:
                put(source, arriving[start:end], PAYLOAD)
                # A crash after the deletes were written down, before the rows: it is done again.
                table.step(twice=len(cuts) > 1)
        table.run()
        rows = table.rows() if table.target.exists() else []
    assert shown(rows, *COLUMNS) == shown(latest(events).values(), *COLUMNS)
    assert not table.rejected


PLAIN = pa.schema(
    [*PAYLOAD, ("tags", pa.list_(pa.string())), ("place", pa.struct([("c", "string")]))]
)


@pytest.mark.spec("D1")
@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.none() | st.integers(0, 1),
            AMOUNTS,
            st.sampled_from([None, math.nan, 0.5]),
            st.sampled_from([None, [], ["x"]]),
            st.sampled_from([None, {"c": None}, {"c": "y"}]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
    st.integers(1, 7),
)
def test_property_07_deduplication_by_key_without_coordinates(
    raws: list[tuple[Any, ...]], randoms: Any, cut: int
) -> None:
    # Nothing but the rows' own values tells rows of one sequence apart.
    rows = [
        dict(zip(PLAIN.names, (k, s if s is None else minute(s), *rest), strict=True))
        for k, s, *rest in raws
    ]
    other = list(rows)
    randoms.shuffle(other)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arriving in (("one", rows), ("two", other)):
            source, silver = Path(folder, name), Path(folder, f"{name}_silver")
            ENGINE.execute(str(source), Create(PLAIN))
            table = Stepper(SPEC, source, silver)
            for part in (arriving[:cut], arriving[cut:]) if name == "two" else (arriving,):
                if part:
                    ENGINE.execute(str(source), Append(pa.Table.from_pylist(part, PLAIN)))
                    table.run()
            tables.append(shown(table.rows(), *PLAIN.names))
    assert tables[0] == tables[1]
    assert len(tables[0]) == len({row["id"] for row in rows})


def _decimal(text: str | None) -> Decimal | None:
    """What JSON's text of a number is in a decimal(9,2); None: it is not to be one."""
    if text is None or not all(c in "0123456789.-" for c in text) or not text.strip("-."):
        return None
    whole = text.lstrip("-").partition(".")[0]
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    plain = len(whole) > 0 and (whole == "0" or whole[0] != "0") and not text.endswith(".")
    fits = value == round(value, 2) and abs(value) < 10**7 and text.count("-") <= 1
    return value if plain and fits else None


TEXTS = st.one_of(
    st.none(),
    st.from_regex(r"-?(0|[1-9]\d{0,3})(\.\d{1,3})?", fullmatch=True),
    st.sampled_from(["", " 1", "1,5", "abc", "1.", "--1", "0x1", "10000000", "9999999.99"]),
    st.text("01.-", max_size=6),
)


@pytest.mark.spec("D1")
@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), TEXTS), max_size=30))
def test_property_08_type_conversion_errors_are_kept_with_their_text(
    raws: list[tuple[str | None, str | None]],
) -> None:
    spec = RowWiseSpec("silver.t", "append", types={"amount": "decimal(9,2)"}, not_null=("id",))
    rows = [
        {"id": key, "amount": text, "_offset": n, "_timestamp": minute(n)}
        for n, (key, text) in enumerate(raws)
    ]
    with tempfile.TemporaryDirectory() as folder:
        source = bronze(Path(folder, "bronze"), PAYLOAD)
        table = Stepper(spec, source, Path(folder, "silver"))
        if rows:
            put(source, rows, PAYLOAD)
        table.run()
        found = {row["_offset"]: row["amount"] for row in table.rows()}
    rejected = {
        offset: (one.rule, value)
        for one in table.rejected
        for offset, value in zip(
            one.rows.column("_offset").to_pylist(), one.values.to_pylist(), strict=True
        )
    }
    # Each record is in the table or rejected, never both, never neither.
    assert sorted([*found, *rejected]) == list(range(len(rows)))
    for n, (key, text) in enumerate(raws):
        value = _decimal(text)
        if text is not None and value is None:
            assert rejected[n] == ("type_conversion", text)
        elif key is None:
            assert rejected[n] == ("not_null(id)", None)
        else:
            assert found[n] == value


@pytest.mark.spec("D1")
@settings(max_examples=10)
@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=12), st.booleans())
def test_property_11_date_partitioning(minutes: list[int], hours: bool) -> None:
    by = "hour(updated_at)" if hours else "date(updated_at)"
    spec = RowWiseSpec(
        "silver.t", "upsert", keys=("id",), sequence_by=("updated_at",), partition_by=(by,)
    )
    rows = [
        {"id": f"k{n % 5}", "updated_at": minute(m), "_offset": n, "_timestamp": minute(n)}
        for n, m in enumerate(minutes)
    ]
    with tempfile.TemporaryDirectory() as folder:
        source = bronze(Path(folder, "bronze"), PAYLOAD)
        table = Stepper(spec, source, Path(folder, "silver"))
        for row in (rows[:6], rows[6:]):
            put(source, row, PAYLOAD)
            table.run()
        found = table.rows()
        partitions = {path.name for path in table.target.glob("updated_at_*=*")}
    assert found
    for row in found:
        day = row["updated_at"].date()
        whole = row["updated_at"].replace(minute=0, second=0, microsecond=0)
        assert row[f"updated_at_{'hour' if hours else 'date'}"] == (whole if hours else day)
    names = {str(row["updated_at"].date()) for row in found}
    assert all(any(day in one for one in partitions) for day in names)
    # A key's row has left the partition that it was in.
    assert len(found) == len({row["id"] for row in found})


CUSTOMERS = RowWiseSpec(
    "gold.customers", "scd2", keys=("id",), sequence_by=("updated_at",), track=("amount", "score")
)


@pytest.mark.spec("D2")
@settings(max_examples=12)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 9))
@example(REVIVED, None, 1)
def test_property_12_scd2_versioning_through_the_derivation(
    events: list[Event], randoms: Any, cut: int
) -> None:
    arriving = list(events)
    if randoms is not None:
        randoms.shuffle(arriving)
        arriving += arriving[: len(arriving) // 3]
    with tempfile.TemporaryDirectory() as folder:
        source = bronze(Path(folder, "bronze"), PAYLOAD)
        table = Stepper(CUSTOMERS, source, Path(folder, "gold"))
        for part in (arriving[:cut], arriving[cut:]):
            if part:
                put(source, part, PAYLOAD)
                table.run()
        rows = _versions(table)
    # Events without a time are rejected: nothing says when they were.
    timed = [e for e in events if e["_tombstone"] or e["updated_at"] is not None]
    assert rows == _expected_versions(timed)
    without = {e["_offset"] for e in events} - {e["_offset"] for e in timed}
    rejected = {o for one in table.rejected for o in one.rows.column("_offset").to_pylist()}
    assert rejected == without


def _versions(table: Stepper) -> list[str]:
    names = ("id", "valid_from", "valid_to", "is_current", "amount", "score")
    if not table.target.exists():
        return []
    request = no_tombstones(Scd2(pa.table({}), ("id",), ("updated_at",)))
    return shown(table.rows(where=request), *names)


def _expected_versions(events: Sequence[Event]) -> list[str]:
    changes = [
        e
        | {"id": _key_of(e), "updated_at": e["_timestamp"] if e["_tombstone"] else e["updated_at"]}
        for e in events
    ]
    found = expected_versions(
        changes,
        ("id",),
        ("updated_at", "_timestamp", "_topic", "_partition", "_offset"),
        ("amount", "score"),
        ("amount", "score"),
        lambda change: bool(change["_tombstone"]),
    )
    return shown(found, "id", "valid_from", "valid_to", "is_current", "amount", "score")


class Histories:
    """Plays random histories of a source, and a table that follows it in random steps."""

    def __init__(self, folder: Path, spec: RowWiseSpec, feed: bool) -> None:
        properties = {"delta.enableChangeDataFeed": "true"} if feed else {}
        self.source = bronze(folder / "bronze", PAYLOAD, **properties)
        self.folder = folder
        self.table = Stepper(spec, self.source, folder / "silver")
        self.states: list[list[Event]] = [[]]
        self.oldest = 0
        self.offset = 0

    def play(self, op: str, a: int, b: int) -> None:
        events = self.states[-1]
        getattr(self, f"_{op}")(events, a, b)

    def _do(self, operation: Any, after: list[Event]) -> None:
        if ENGINE.execute(str(self.source), operation).changed:
            self.states.append(after)

    def _append(self, events: list[Event], a: int, b: int) -> None:
        new = []
        for n in range(a % 3 + 1):
            raw = ("abc"[(a + n) % 3], b % 5, (a * b) % 5, 0, str(a + n), 0.5, (a + b + n) % 5 == 0)
            new.append(_event(raw, self.offset) | {"extra": a})
            self.offset += 1
        schema = ENGINE.read(str(self.source), Read()).schema
        if "extra" not in schema.names:
            new = [{n: v for n, v in one.items() if n != "extra"} for one in new]
        self._do(Append(pa.Table.from_pylist(new, schema)), [*events, *new])

    def _compact(self, events: list[Event], a: int, b: int) -> None:
        self._do(Compact(), events)

    def _delete(self, events: list[Event], a: int, b: int) -> None:
        left = [e for e in events if e["_offset"] % 4 != a % 4]
        self._do(Delete(f"_offset % 4 = {a % 4}"), left)

    def _restore(self, events: list[Event], a: int, b: int) -> None:
        version = self.oldest + (a * 7 + b) % (len(self.states) - self.oldest)
        self._do(Restore(version=version), self.states[version])

    def _column(self, events: list[Event], a: int, b: int) -> None:
        if "extra" not in ENGINE.read(str(self.source), Read()).schema.names:
            self._do(AddColumns(pa.schema([("extra", pa.int32())])), events)

    def _vacuum(self, events: list[Event], a: int, b: int) -> None:
        self.table.run()
        vacuum = Vacuum(retention_hours=0, allow_short_retention=True)
        self._do(vacuum, events)
        while len(self.states) <= self._latest():
            self.states.append(events)
        self.oldest = len(self.states) - 1

    def _step(self, events: list[Event], a: int, b: int) -> None:
        self.table.step(limit=Limit(versions=a % 3 + 1))

    def _latest(self) -> int:
        return ENGINE.history(str(self.source), 1)[0].version

    def at_once(self) -> Stepper:
        """A table made of the source as it is, in one step."""
        return Stepper(self.table.spec, self.source, self.folder / "at_once").run()


OPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "append", "append", "compact", "delete", "restore", "column", "vacuum",
             "step", "step"]
        ),
        st.integers(0, 12),
        st.integers(1, 9),
    ),
    max_size=14,
)  # fmt: skip


def _play(spec: RowWiseSpec, ops: Sequence[tuple[str, int, int]], feed: bool) -> tuple[Any, ...]:
    folder = Path(tempfile.mkdtemp())
    try:
        history = Histories(folder, spec, feed)
        for op in ops:
            history.play(*op)
        history.table.run(Limit(versions=2))
        return history, history.table.rows(), history.at_once().rows(), history.states[-1]
    finally:
        shutil.rmtree(folder)


@pytest.mark.spec("D1", "D3")
@settings(max_examples=15)
@given(OPS, st.booleans())
@example([("append", 0, 1), ("append", 3, 4), ("step", 2, 1), ("delete", 0, 1)], True)
@example([("append", 2, 5), ("step", 2, 1), ("restore", 0, 1), ("append", 5, 2)], False)
def test_property_14_incremental_processing_follows_every_history(
    ops: list[tuple[str, int, int]], feed: bool
) -> None:
    _, rows, _, events = _play(SPEC, ops, feed)
    assert shown(rows, *COLUMNS, "extra") == shown(latest(events).values(), *COLUMNS, "extra")


@pytest.mark.spec("D3")
@pytest.mark.parametrize("mode", ["upsert", "scd2"])
@settings(max_examples=8)
@given(OPS, st.booleans())
def test_property_33_batch_equals_streaming(
    mode: str, ops: list[tuple[str, int, int]], feed: bool
) -> None:
    spec = CUSTOMERS if mode == "scd2" else SPEC
    history, streamed, batch, _ = _play(spec, ops, feed)
    names = sorted({name for row in [*streamed, *batch] for name in row} - {"_changes"})
    if mode == "scd2":
        streamed, batch = (
            [r for r in rows if r["valid_from"] != r["valid_to"]] for rows in (streamed, batch)
        )
    assert shown(streamed, *names) == shown(batch, *names)
    assert not history.table.rejected


STATES = pa.schema([("order", pa.int64()), *PAYLOAD])
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "move", "delete", "restore", "step", "step"]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=9,
)


def _change(source: Path, op: str, a: int, b: int) -> None:
    rows = [
        {"order": (a + n) % 4, "id": "abc"[(a * b + n) % 3], "updated_at": minute(b)}
        | {"amount": str(n)}
        for n in range(a % 3 + 1)
    ]
    version = ENGINE.history(str(source), 1)[0].version
    made: dict[str, Any] = {
        "put": Upsert(pa.Table.from_pylist(rows, STATES), ("order",)),
        "move": Update({"id": f"'{'abc'[b % 3]}'"}, where=f'"order" = {a % 4}'),
        "delete": Delete(f'"order" = {a % 4}'),
        "restore": Restore(version=(a * 7 + b) % (version + 1)),
    }
    ENGINE.execute(str(source), made[op])


@pytest.mark.spec("D3")
@pytest.mark.parametrize("keys", [("order",), ("order", "id"), ("id",)], ids="+".join)
@settings(max_examples=8)
@given(CHANGES, st.booleans())
@example([("put", 2, 1), ("step", 0, 0), ("move", 0, 1), ("put", 2, 5), ("delete", 2, 1)], True)
def test_property_33_batch_equals_streaming_of_a_source_that_is_updated(
    keys: tuple[str, ...], changes: list[tuple[str, int, int]], feed: bool
) -> None:
    spec = RowWiseSpec(
        "gold.t", "upsert", keys=keys, sequence_by=("updated_at",), source_keys=("order",)
    )
    properties = {"delta.enableChangeDataFeed": "true"} if feed else {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "silver")
        ENGINE.execute(str(source), Create(STATES, properties=properties))
        table = Stepper(spec, source, Path(folder, "gold"))
        for op, a, b in changes:
            if op == "step":
                table.step(limit=Limit(versions=a % 3 + 1))
            else:
                _change(source, op, a, b)
        table.run(Limit(versions=2))
        batch = Stepper(spec, source, Path(folder, "batch")).run()
        assert shown(table.rows(), *STATES.names) == shown(batch.rows(), *STATES.names)
        states = ENGINE.read(str(source), Read()).read_all().to_pylist()
        found = {tuple(row[name] for name in keys) for row in table.rows()}
    assert found == {tuple(row[name] for name in keys) for row in states}
