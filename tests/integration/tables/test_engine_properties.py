"""What holds for every table whatever engine writes it (SPEC L 12, 16, 17, 40 to 44).

Spark is asked for a few examples only. Where both are, they take turns on one table.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylake import faults
from raylake.clock import ManualClock
from raylake.ingest.retry import RetryPolicy
from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables import delta_rs, errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from raylake.tables.requests import Append, Create, Read, Scd2, Update, Upsert, Write
from raylake.tables.scd2 import no_tombstones, table_for
from raylake.tables.upkeep_requests import Vacuum
from tests.harness.spark_gates import SOON_S, while_spark_reads_its_source
from tests.harness.table_steps import STEPS, State, Step, made_long_ago, play
from tests.harness.tables import NOON, SCHEMA, Table, number, orders, takes_over
from tests.harness.versions_oracle import expected_versions

Engines = tuple[TableEngine, ...]


def examples(engines: Sequence[TableEngine], plenty: int = 12) -> settings:
    """How many examples: always the same ones."""
    spark = any(one.name == "spark" for one in engines)
    return settings(
        max_examples=2 if spark else plenty,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


SPARK_ALONE = pytest.param("spark", marks=pytest.mark.long)
BOTH_IN_LONG = pytest.param("spark and delta-rs", marks=pytest.mark.long)


@pytest.fixture(params=["delta-rs", SPARK_ALONE, "spark and delta-rs"])
def engines(request: pytest.FixtureRequest) -> Engines:
    """Those that take turns."""
    found: list[TableEngine] = []
    if "spark" in request.param:
        found.append(SparkEngine(one_session(request.getfixturevalue("spark"))))
    if "delta-rs" in request.param:
        found.append(DeltaRsEngine())
    return tuple(found)


@pytest.fixture(params=["delta-rs", SPARK_ALONE])
def engine(request: pytest.FixtureRequest) -> TableEngine:
    if request.param == "spark":
        return SparkEngine(one_session(request.getfixturevalue("spark")))
    return DeltaRsEngine()


@contextmanager
def new(engines: Sequence[TableEngine], create: Create | None = None) -> Iterator[list[Table]]:
    """A new table in the hands of each engine."""
    with tempfile.TemporaryDirectory() as folder:
        tables = [Table(one, Path(folder, "t")) for one in engines]
        tables[0].do(create or Create(SCHEMA))
        yield tables


# -- 12: versions of rows

CHANGES = pa.schema(
    [
        ("key", pa.int64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("score", pa.int32()),
        ("note", pa.string()),
        ("op", pa.string()),
    ]
)
A_CHANGE = st.fixed_dictionaries(
    {
        "key": st.integers(0, 2),
        "time": st.integers(0, 5).map(lambda n: NOON + dt.timedelta(minutes=n)),
        "score": st.none() | st.integers(0, 2),
        "note": st.sampled_from(["x", "y"]),
        "op": st.sampled_from(["U", "U", "U", "D"]),
    }
)


def versions_of(rows: Sequence[dict[str, Any]]) -> Scd2:
    table = pa.Table.from_pylist(list(rows), schema=CHANGES)
    return Scd2(table, ("key",), ("time",), track=("score",), delete_when="op = 'D'")


@pytest.mark.parametrize("engines", ["delta-rs", SPARK_ALONE, BOTH_IN_LONG], indirect=True)
def test_property_12_scd2_versioning_by_whichever_engine_in_any_order(engines: Engines) -> None:
    """Any order, repetition and cut of the changes makes the versions that all at once make."""
    values = ("score", "note", "time")

    @examples(engines, 8)
    @given(st.lists(A_CHANGE, min_size=4, max_size=12), st.randoms(use_true_random=False))
    def holds(changes: list[dict[str, Any]], chance: Any) -> None:
        with new(engines, table_for(versions_of([]), values)) as tables:
            takes_over(tables[0].path, 1)
            order = [*changes, *chance.sample(changes, 2)]
            chance.shuffle(order)
            third = -(-len(order) // 3)
            slot = 1
            for at in range(3):
                request = versions_of(order[at * third : (at + 1) * third])
                # What changes nothing leaves its number to the next one.
                slot += tables[at % len(tables)].do(request, number(slot, 1)).changed
            expected = expected_versions(
                changes, ("key",), ("time",), ("score",), values, lambda row: row["op"] == "D"
            )
            for table in tables:
                found = table.rows(where=no_tombstones(versions_of([])))
                shown = [{k: v for k, v in row.items() if k != "_changes"} for row in found]
                assert texts(shown) == texts(expected)

    holds()


def texts(rows: Sequence[dict[str, Any]]) -> list[str]:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, dt.datetime) else value

    return sorted(repr(sorted((k, plain(v)) for k, v in row.items())) for row in rows)


# -- 16, 17: versions

SHORT = st.lists(STEPS, min_size=3, max_size=5)


@pytest.mark.parametrize("engines", ["delta-rs", SPARK_ALONE, BOTH_IN_LONG], indirect=True)
def test_property_16_time_travel_shows_each_version_as_it_was(engines: Engines) -> None:
    @examples(engines)
    @given(SHORT)
    def holds(steps: list[Step]) -> None:
        with new(engines) as tables:
            states: list[State] = [{}]
            play(tables, states, steps)
            for version, state in enumerate(states):
                table = tables[version % len(tables)]
                assert table.amounts(version=version) == state
            middle = len(states) // 2
            for table in tables:
                assert table.amounts(at=table.made_at(middle)) == states[middle]
                assert table.amounts() == states[-1]

    holds()


@pytest.mark.parametrize("engines", ["delta-rs", BOTH_IN_LONG], indirect=True)
def test_property_17_versions_within_the_retention_stay_available(engines: Engines) -> None:
    """Before it they may be gone, and then it is said; never is one read that is not whole."""

    @examples(engines)
    @given(SHORT, SHORT, st.integers(0, 4))
    def holds(old: list[Step], young: list[Step], pin: int) -> None:
        with new(engines) as tables:
            states: list[State] = [{}]
            play(tables, states, old)
            within = len(states) - 1
            made_long_ago(tables[0].path)
            play(tables, states, young)
            pinned = pin % len(states)
            DeltaRsEngine().execute(str(tables[0].path), Vacuum(keep_versions=(pinned,)))
            for version, state in enumerate(states):
                table = tables[version % len(tables)]
                if version >= within or version == pinned:
                    assert table.amounts(version=version) == state
                    continue
                with suppress(errors.VersionGone):
                    assert table.amounts(version=version) == state

    holds()


# -- 40: writers at the same time


def test_property_40_concurrent_writes_serialise(engine: TableEngine) -> None:
    """What several make at once is what some order of theirs makes: that of the log."""
    script = st.lists(st.integers(1, 9), min_size=1, max_size=2 if engine.name == "spark" else 4)

    @examples([engine], 6)
    @given(st.lists(script, min_size=2, max_size=3))
    def holds(scripts: list[list[int]]) -> None:
        with new([engine]) as (table,):
            table.do(Append(orders([1, 2], 7)))
            barrier = threading.Barrier(len(scripts))

            def run(which: int) -> list[tuple[int, int, int]]:
                barrier.wait(SOON_S)
                done = []
                for k in scripts[which]:
                    change = Update({"amount": f"amount % 100 * 3 + {k}"}, where="id < 3")
                    done.append((table.do(change).version_after, k, -1))
                    more = table.do(Append(orders([1000 + len(done) * 10 + which], k)))
                    done.append((more.version_after, k, 1000 + (len(done)) * 10 + which))
                return done

            with ThreadPoolExecutor(len(scripts)) as pool:
                landed = sorted(one for done in pool.map(run, range(len(scripts))) for one in done)
            assert [version for version, _, _ in landed] == list(range(2, 2 + len(landed)))
            expected = {1: 7, 2: 7}
            for _, k, appended in landed:
                if appended < 0:
                    expected |= {n: expected[n] % 100 * 3 + k for n in (1, 2)}
                else:
                    expected[appended] = k
            assert table.amounts() == expected

    holds()


# -- 41: all or nothing

GOOD = st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=8)


def test_property_41_transaction_atomicity_where_one_row_is_refused(engine: TableEngine) -> None:
    """In several files and partitions: a row that breaks a rule takes all others with it."""

    @examples([engine], 10)
    @given(GOOD, st.integers(-1, 40), st.sampled_from(["append", "upsert", "update"]))
    def holds(ids: list[int], least: int, kind: str) -> None:
        rules = {"enough": f"amount >= {least}"}
        with new([engine], Create(SCHEMA, ("region",), constraints=rules)) as (table,):
            before = dict.fromkeys(range(0, 24, 2), 40)
            table.do(Append(orders(before, 40)))
            changes = {n: 10 + n for n in ids}
            appended = {100 + n: 10 + n for n in ids}
            less = {n: v - n for n, v in before.items()}
            asked: dict[str, tuple[Write, State]] = {
                "append": (Append(priced(appended)), before | appended),
                "upsert": (Upsert(priced(changes), ("id",)), before | changes),
                "update": (Update({"amount": "amount - id"}), less),
            }
            operation, after = asked[kind]
            if min(after.values()) < least:
                with pytest.raises(errors.ValuesRefused) as refused:
                    table.do(operation)
                assert refused.value.table_changed is False
                assert (table.version, table.amounts()) == (base_of(table), before)
            else:
                assert table.do(operation).changed
                assert table.amounts() == after

    holds()


def priced(amounts: State) -> pa.Table:
    rows = orders(amounts)
    values = pa.array(amounts.values(), pa.int32())
    return rows.set_column(rows.schema.get_field_index("amount"), SCHEMA.field("amount"), values)


def base_of(table: Table) -> int:
    """The version that the first rows made; a constraint may have one of its own."""
    lines = table.engine.history(str(table.path))
    return max(line.version for line in lines if line.operation == "WRITE")


def test_property_41_transaction_atomicity_whatever_ends_a_merge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of delta-rs's engine: an error around the commit, and what is said agrees with the log."""

    @examples([DeltaRsEngine()], 10)
    @given(GOOD, st.sampled_from(["merge.written", "merge.committed"]))
    def holds(ids: list[int], point: str) -> None:
        with new([DeltaRsEngine()]) as (table,):
            before = dict.fromkeys(range(0, 20, 2), 1)
            table.do(Append(orders(before)))
            folder = table.path.parent / "faults"
            monkeypatch.setenv(faults.ENV, str(folder))
            faults.arm(folder, point, action="error")
            merge, after = Upsert(orders(ids, 5), ("id",)), before
            if point == "merge.committed":
                assert table.do(merge).changed
                after = before | dict.fromkeys(ids, 5)
            else:
                with pytest.raises(errors.WriteFailed) as failed:
                    table.do(merge)
                assert failed.value.table_changed is False
            assert table.amounts() == after
            assert len(faults.fired(folder)) == 1

    holds()


# -- 42, 43: what others see meanwhile


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Look again and again while something is done, and at least once afterwards."""
    done = threading.Event()
    problems: list[BaseException] = []

    def run() -> None:
        try:
            while not done.wait(0.001):
                look()
            look()
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if problems:
        raise problems[0]


TRANSFERS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(4, 7), st.integers(1, 9)), min_size=2, max_size=4
)


def test_property_42_snapshot_isolation_of_readers_beside_writers(engine: TableEngine) -> None:
    """What goes from one row to another is in one of them, in whatever moment somebody looks."""

    @examples([engine], 5)
    @given(TRANSFERS)
    def holds(transfers: list[tuple[int, int, int]]) -> None:
        with new([engine], Create(SCHEMA, ("region",))) as (table,):
            table.do(Append(orders(range(8), 100)))
            opened = engine.read(str(table.path), Read(columns=("id", "amount")))
            looks: list[int] = []

            def look() -> None:
                found = table.amounts()
                assert (sorted(found), sum(found.values())) == (list(range(8)), 800)
                looks.append(1)

            expected = dict.fromkeys(range(8), 100)
            with watched(look):
                for source, target, k in transfers:
                    values = (
                        f"case when id = {source} then amount - {k} "
                        f"when id = {target} then amount + {k} else amount end"
                    )
                    table.do(Update({"amount": values}, where=f"id in ({source}, {target})"))
                    expected[source] -= k
                    expected[target] += k
            assert table.amounts() == expected
            assert looks
            # A reader that was opened before keeps its version.
            assert set(opened.read_all().column("amount").to_pylist()) == {100}

    holds()


@pytest.mark.parametrize("engines", ["delta-rs", SPARK_ALONE, BOTH_IN_LONG], indirect=True)
def test_property_43_log_atomicity_no_version_is_missing_torn_or_changed(
    engines: Engines,
) -> None:
    @examples(engines, 6)
    @given(SHORT)
    def holds(steps: list[Step]) -> None:
        with new(engines) as tables:
            log = tables[0].path / "_delta_log"
            seen: dict[int, str] = {}

            def look() -> None:
                found = {int(one.stem): one for one in log.glob("*.json") if one.stem.isdigit()}
                assert sorted(found) == list(range(len(found)))
                for version, file in found.items():
                    text = file.read_text()
                    assert seen.setdefault(version, text) == text
                    actions = [json.loads(line) for line in text.splitlines()]
                    assert sum("commitInfo" in one for one in actions) == 1

            states: list[State] = [{}]
            with watched(look):
                play(tables, states, steps)
            assert sorted(seen) == list(range(len(states)))

    holds()


# -- 44: conflicts


class Sleeper(ManualClock):
    """A clock that keeps what was slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


def test_property_44_conflict_retry_with_backoff_of_either_engine(
    engine: TableEngine, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upsert that others come before lands on what they made, or gives up and says so."""
    spark = engine.name == "spark"

    @examples([engine], 10)
    @given(st.integers(0, 4) if not spark else st.integers(1, 2), st.integers(2, 4))
    def holds(conflicts: int, attempts: int) -> None:
        attempts = 2 if spark else attempts
        policy = RetryPolicy(attempts=attempts, initial_s=1.0, max_s=3.0)
        clock = Sleeper()
        with new([DeltaRsEngine()]) as (other,), monkeypatch.context() as patch:
            other.do(Append(orders(range(4))))
            table = other
            if spark:
                session = request.getfixturevalue("spark")
                come = partial(between_in_spark, patch)
                table = Table(
                    SparkEngine(one_session(session), clock=clock, conflicts=policy), other.path
                )
            else:
                come = partial(between_in_delta_rs, patch)
                table = Table(DeltaRsEngine(clock, conflicts=policy), other.path)
            come(other.path, conflicts)
            merge = Upsert(orders([0, 1, 50], 9), ("id",))
            appended = {100 + n: 0 for n in range(min(conflicts, attempts))}
            before = dict.fromkeys(range(4), 1)
            if conflicts < attempts:
                assert table.do(merge).attempts == conflicts + 1
                assert other.amounts() == before | {0: 9, 1: 9, 50: 9} | appended
            else:
                with pytest.raises(errors.WriteConflict) as told:
                    table.do(merge)
                assert told.value.table_changed is False
                assert other.amounts() == before | appended
            assert len(clock.slept) == min(conflicts, attempts - 1)
            for failed, slept in enumerate(clock.slept):
                assert 0 <= slept <= min(3.0, 2.0**failed)

    holds()


def append_elsewhere(path: Path, n: int) -> None:
    """By somebody who knows nothing of us."""
    write_deltalake(path, orders([100 + n], 0), mode="append")


def between_in_delta_rs(patch: pytest.MonkeyPatch, path: Path, times: int) -> None:
    """Another commit comes after each of the first tries has read the table."""
    left = iter(range(times))
    opened_for = delta_rs.opened_for

    def opened(*arguments: Any) -> DeltaTable:
        handle = opened_for(*arguments)
        if (n := next(left, None)) is not None:
            append_elsewhere(path, n)
        return handle

    patch.setattr(delta_rs, "opened_for", opened)


def between_in_spark(patch: pytest.MonkeyPatch, path: Path, times: int) -> None:
    """The same inside Spark's transaction."""
    works = [partial(append_elsewhere, path, n) for n in range(times)]
    while_spark_reads_its_source(patch, path.parent, works)
