"""Each MERGE on Spark is applied once, and none of an earlier owner's (DESIGN §6)."""

from __future__ import annotations

import datetime as dt
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta.ledger import OWNER_APP
from raylake.spark.engine import SparkEngine
from raylake.spark.engine_sessions import one_session
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import (
    Append,
    Create,
    Delete,
    Overwrite,
    Restore,
    Scd2,
    Update,
    Upsert,
)
from raylake.tables.scd2 import table_for
from tests.harness.spark_gates import while_spark_reads_its_source
from tests.harness.tables import NOON, SCHEMA, Table, orders, takes_over
from tests.harness.tables import number as slot_number

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EPOCH = 3


number = partial(slot_number, epoch=EPOCH)


@pytest.fixture
def owned(spark: SparkSession, tmp_path: Path) -> Table:
    """Ten rows in version 1, and an owner since version 2."""
    table = Table(SparkEngine(one_session(spark)), tmp_path / "t")
    table.do(Create(SCHEMA))
    table.do(Append(orders(range(10))))
    takes_over(table.path, EPOCH)
    return table


@pytest.mark.long
@pytest.mark.spec("C2", "C6")
def test_failure_24_a_merge_that_is_submitted_again_is_applied_once(owned: Table) -> None:
    more = Upsert(orders(range(5, 15), 2), ("id",))
    assert owned.do(more, number(1)).version_after == 3
    before = owned.amounts()
    with pytest.raises(errors.SlotClosed) as caught:
        owned.do(Upsert(orders(range(5, 15), 9), ("id",)), number(1))
    assert caught.value.to_dict()["table_changed"] is False
    assert (owned.version, owned.amounts()) == (3, before)
    assert DeltaTable(owned.path).transaction_version(OWNER_APP) == number(1).number
    # Every kind of operation carries its slot's number.
    for step, operation in enumerate(
        (
            Upsert(orders([5], 3), ("id",)),
            Update({"amount": "4"}, where="id = 6"),
            Delete("id = 7"),
            Append(orders([100])),
            Overwrite(orders([8], 5), where="id = 8"),
        ),
        start=2,
    ):
        result = owned.do(operation, number(step))
        assert result.version_after == result.version_before + 1 == step + 2
        assert DeltaTable(owned.path).transaction_version(OWNER_APP) == number(step).number
    found = {n: a for n, a in owned.amounts().items() if n in (5, 6, 7, 8, 100)}
    assert found == {5: 3, 6: 4, 8: 5, 100: 1}
    # What changes nothing takes a number, too, or leaves it for the next one.
    left = owned.do(Delete("id = 12345"), number(7))
    stored = DeltaTable(owned.path).transaction_version(OWNER_APP)
    assert stored == (number(7) if left.changed else number(6)).number


@pytest.mark.spec("C6")
def test_without_its_owners_slot_nothing_is_written(owned: Table) -> None:
    with pytest.raises(errors.OwnerOnly):
        owned.do(Delete("id = 1"))
    with pytest.raises(errors.FeatureUnsupported, match="cannot carry") as caught:
        owned.do(Restore(version=0), number(1))
    assert "engine: delta-rs" in caught.value.hint
    assert owned.version == 2


@pytest.mark.spec("C6")
def test_failure_24_a_merge_that_spark_skips_is_an_error(owned: Table, spark: SparkSession) -> None:
    """A new owner comes between the engine's check and Spark's: Spark says nothing and skips."""
    before = owned.amounts()

    def sessions(table: str) -> SparkSession:
        takes_over(Path(table), EPOCH + 1)
        return spark.newSession()

    late = Table(SparkEngine(sessions), owned.path)
    with pytest.raises(errors.SlotClosed, match="a newer owner") as caught:
        late.do(Upsert(orders([1], 9), ("id",)), number(1))
    assert caught.value.to_dict()["table_changed"] is False
    assert f"epoch {EPOCH + 1}" in caught.value.message
    assert (owned.version, owned.amounts()) == (3, before)


@pytest.mark.long
@pytest.mark.spec("C6")
def test_failure_24_a_merge_in_flight_falls_to_a_new_owner(
    owned: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch moves while Spark reads the source, inside its transaction."""
    before = owned.amounts()
    gates = tmp_path / "gates"
    gates.mkdir()
    moved = partial(takes_over, owned.path, EPOCH + 1)
    while_spark_reads_its_source(monkeypatch, gates, [moved])
    with pytest.raises(errors.SlotClosed, match="a newer owner") as caught:
        owned.do(Upsert(orders([1, 2], 9), ("id",)), number(1))
    assert caught.value.to_dict()["table_changed"] is False
    assert (owned.version, owned.amounts()) == (3, before)


@pytest.mark.spec("C6")
def test_engines_take_turns_under_one_owner(owned: Table) -> None:
    other = Table(DeltaRsEngine(), owned.path)
    owned.do(Upsert(orders([1], 2), ("id",)), number(1))
    other.do(Upsert(orders([1], 3), ("id",)), number(2))
    owned.do(Update({"amount": "amount + 1"}, where="id = 1"), number(3))
    assert owned.amounts(where="id = 1") == {1: 4}
    with pytest.raises(errors.SlotClosed):
        other.do(Delete("true"), number(3))


@pytest.mark.long
@pytest.mark.spec("C2")
def test_versions_of_rows_are_made_under_a_slot_as_by_delta_rs(
    spark: SparkSession, tmp_path: Path
) -> None:
    schema = pa.schema([("k", pa.string()), ("v", pa.int64()), ("at", pa.timestamp("us", "UTC"))])

    def changes(*rows: tuple[str, int, int]) -> Scd2:
        found = [{"k": k, "v": v, "at": NOON + dt.timedelta(minutes=m)} for k, v, m in rows]
        return Scd2(pa.Table.from_pylist(found, schema=schema), ("k",), ("at",), track=("v",))

    steps = (
        changes(("a", 1, 0), ("b", 1, 0)),
        changes(("a", 2, 10), ("c", 1, 5), ("b", 1, 7)),
        changes(("a", 3, 5), ("a", 2, 10)),
    )
    seen = []
    for engine in (SparkEngine(one_session(spark)), DeltaRsEngine()):
        table = Table(engine, tmp_path / engine.name)
        table.do(table_for(steps[0]))
        takes_over(table.path, EPOCH)
        counts = [table.do(step, number(at)).rows for at, step in enumerate(steps, start=1)]
        seen.append((table.rows(), [(c.inserted, c.updated, c.source) for c in counts]))
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == 5


def test_rows_under_a_slot_are_checked_as_everywhere(owned: Table) -> None:
    with pytest.raises(errors.DuplicateMergeKeys):
        owned.do(Upsert(pa.concat_tables([orders([1]), orders([1], 2)]), ("id",)), number(1))
    assert owned.version == 2
