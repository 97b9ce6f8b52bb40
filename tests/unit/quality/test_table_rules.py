"""Rules about the table: unique in it, references to others, and how fresh it is."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from raylake.quality import table_rules
from raylake.quality.errors import QualityAbort, RuleRefused
from raylake.quality.pruning import at_most
from raylake.quality.rules import RuleSet
from raylake.tables.errors import TableMissing, UnknownColumn
from tests.harness.quality import NOW, Look, check, failed, rule

UTC = dt.UTC


def rows(**columns: Any) -> pa.Table:
    return pa.table(columns)


UNIQUE = rule("unique", columns=["email"])


def test_within_the_batch_the_first_one_stays() -> None:
    assert failed(rows(email=["a", "b", "a", "a", None, None]), UNIQUE) == [2, 3]


def test_unique_means_in_the_table() -> None:
    look = Look(target=pa.table({"email": pa.array(["b", None], pa.large_string())}))
    assert failed(rows(email=["a", "b", "b", None]), UNIQUE, look=look) == [1, 2]
    assert look.asked[0].columns == ("email",)
    assert look.asked[0].where is not None


def test_a_row_that_replaces_itself_is_no_duplicate() -> None:
    look = Look(target=rows(id=[1, 2, 3], email=["a", "b", "c"]))
    batch = rows(id=[1, 1, 4, 5, 5], email=["a", "a", "b", "x", "x"])
    assert failed(batch, UNIQUE, keys=("id",), look=look) == [2]


def test_a_value_that_its_row_gives_up_in_the_batch_is_free() -> None:
    look = Look(target=rows(id=[1], email=["a"]))
    assert failed(rows(id=[1, 2], email=["b", "a"]), UNIQUE, keys=("id",), look=look) == []


def test_a_row_that_leaves_gives_up_nothing() -> None:
    """The row that would free the value breaks another rule, and the table keeps its own."""
    look = Look(target=rows(id=[1], email=["a"], n=[1]))
    batch = rows(id=[1, 2], email=["b", "a"], n=[-1, 1])
    found = check(
        batch,
        rule("unique", columns=["email"], on_failure="quarantine"),
        rule("range", column="n", min=0, on_failure="quarantine"),
        keys=("id",),
        look=look,
    )
    assert found.kept.to_pylist() == [False, False]


def test_rules_about_uniqueness_are_judged_until_none_leaves() -> None:
    """Row 1 frees a, but leaves for its phone; so row 0, which took a, must leave as well."""
    look = Look(target=rows(id=[1, 9], email=["a", "z"], phone=["1", "9"]))
    batch = rows(id=[2, 1], email=["a", "b"], phone=["2", "9"])
    found = check(
        batch,
        rule("unique", columns=["email"], on_failure="quarantine"),
        rule("unique", columns=["phone"], on_failure="quarantine"),
        keys=("id",),
        look=look,
    )
    assert found.kept.to_pylist() == [False, False]
    assert [one.failed for one in found.results] == [1, 1]


def test_unique_without_quarantine_is_counted_on_the_rows_that_stay() -> None:
    found = check(rows(email=["a", "a"], n=[1, -1]), UNIQUE)
    assert found.results[0].failed == 1
    both = check(
        rows(email=["a", "a"], n=[1, -1]),
        UNIQUE,
        rule("range", column="n", min=0, on_failure="quarantine"),
    )
    assert both.results[0].failed == 0


def test_what_the_merge_makes_unique_reads_nothing() -> None:
    look = Look(target=None)
    assert failed(rows(id=[1, 1], email=["a", "a"]), rule("unique", columns=["id", "email"]),
                  keys=("id",), look=look) == []  # fmt: skip
    assert look.asked == []


def test_several_columns_and_all_kinds_of_values() -> None:
    batch = pa.table(
        {
            "a": pa.array([Decimal("1.50")] * 3 + [None], pa.decimal128(9, 2)),
            "b": pa.array([NOW, NOW, NOW, NOW], pa.timestamp("us", "UTC")),
            "c": pa.array([[1], [1], [2], [1]], pa.list_(pa.int32())),
            "d": pa.array([float("nan")] * 4),
        }
    )  # fmt: skip
    one = rule("unique", columns=["a", "b", "c", "d"], on_failure="quarantine")
    found = check(batch, one)
    assert found.rejected[0].places.to_pylist() == [1]
    assert found.rejected[0].column == ""
    assert found.rejected[0].values.to_pylist() == [
        '{"a":"1.50","b":"2026-01-31T12:00:00Z","c":[1],"d":"NaN"}'
    ]
    assert found.rejected[0].reason == "another row has the same a, b, c, d"


def test_maps_are_not_compared() -> None:
    schema = pa.schema([("email", pa.map_(pa.string(), pa.int32()))])
    with pytest.raises(RuleRefused, match="maps are not compared"):
        RuleSet.of([UNIQUE]).fits(schema)


def test_a_column_that_the_table_gets_in_this_step_has_no_values_there() -> None:
    assert failed(rows(email=["a"]), UNIQUE, look=Look(target=rows(id=[1]))) == []


def test_a_table_that_cannot_be_read_stops_the_step() -> None:
    with pytest.raises(TableMissing):
        failed(rows(email=["a"]), UNIQUE, look=Look())


def test_before_the_transformation_the_source_is_the_table() -> None:
    """The source holds the batch already: of a, one more; of b, as many."""
    one = rule("unique", columns=["email"], when="before")
    look = Look(source=rows(email=["a", "a", "b", "b", "c"]))
    assert failed(rows(email=["a", "b", "b", "c"]), one, keys=("email",), look=look) == [0, 2]


CUSTOMER = rule("foreign_key", column="customer", references="silver.customers",
                references_column="id")  # fmt: skip


def test_a_large_table_is_read_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_rules, "BATCH_ROWS", 2)
    stored = pa.concat_tables([rows(email=[name]) for name in "abcde"])
    assert failed(rows(email=["x", "e", "a"]), UNIQUE, look=Look(target=stored)) == [1, 2]


def test_a_foreign_key_reads_the_other_table() -> None:
    look = Look(silver_customers=rows(id=[1, 2]))
    found = check(
        pa.table({"customer": pa.array([1, 3, None], pa.int32())}),
        CUSTOMER.model_copy(update={"on_failure": "quarantine"}),
        look=look,
    )
    assert found.rejected[0].places.to_pylist() == [1]
    assert found.rejected[0].values.to_pylist() == ["3"]
    assert found.rejected[0].reason == "silver.customers has no row with this value in id"
    assert len(look.asked) == 1
    assert look.asked[0].columns == ("id",)


@pytest.mark.parametrize(
    ("mine", "theirs", "bad"),
    [
        (pa.array(["a", "x", None]), pa.array(["a", None], pa.large_string()), [1]),
        (
            pa.array([Decimal("1.5"), Decimal("2.5")], pa.decimal128(9, 1)),
            pa.array([Decimal("1.500")], pa.decimal128(9, 3)),
            [1],
        ),
        (
            pa.array([NOW], pa.timestamp("us", "UTC")),
            pa.array([NOW], pa.timestamp("ms", "UTC")),
            [],
        ),
        (pa.array([None], pa.string()), pa.array([1]), []),
        (pa.array([1, 2]), pa.array([], pa.int64()), [0, 1]),
    ],
)
def test_keys_are_compared_in_one_type(mine: pa.Array, theirs: pa.Array, bad: list[int]) -> None:
    look = Look(silver_customers=pa.table({"id": theirs}))
    assert failed(pa.table({"customer": mine}), CUSTOMER, look=look) == bad


def test_keys_of_two_kinds_are_refused() -> None:
    with pytest.raises(RuleRefused, match="is string and the one that it refers to long"):
        failed(rows(customer=["1"]), CUSTOMER, look=Look(silver_customers=rows(id=[1])))


def test_a_key_of_a_table_or_column_that_is_not_there() -> None:
    with pytest.raises(TableMissing):
        failed(rows(customer=[1]), CUSTOMER, look=Look())
    with pytest.raises(UnknownColumn):
        failed(rows(customer=[1]), CUSTOMER, look=Look(silver_customers=rows(x=[1])))


def test_a_table_that_refers_to_itself_has_the_rows_that_come() -> None:
    one = rule("foreign_key", column="parent", references="silver.orders", references_column="id")
    look = Look(target=rows(id=[1]))
    assert failed(rows(id=[2, 3], parent=[1, 2]), one, look=look) == []
    assert failed(rows(id=[2, 3], parent=[1, 7]), one, look=look) == [1]


FRESH = rule("freshness", column="at", max_age_s=900)


def times(*minutes_ago: float, kind: pa.DataType | None = None) -> pa.Table:
    at = [NOW - dt.timedelta(minutes=one) for one in minutes_ago]
    if kind is not None and pa.types.is_date(kind):
        return pa.table({"at": pa.array([one.date() for one in at], kind)})
    naive = [one.replace(tzinfo=None) for one in at] if kind == pa.timestamp("us") else at
    return pa.table({"at": pa.array(naive, kind or pa.timestamp("us", "UTC"))})


def test_fresh_rows_ask_nothing_of_the_table() -> None:
    look = Look(target=times(60))
    found = check(times(20, 10), FRESH, look=look).results[0]
    assert found.passed
    assert found.message == "the newest at is 2026-01-31T11:50:00Z, 10m ago: within 15m"
    assert look.asked == []


@pytest.mark.parametrize("kind", [None, pa.timestamp("us"), pa.timestamp("ms", "UTC")])
def test_freshness_fires_when_nothing_arrives(kind: pa.DataType | None) -> None:
    nothing = times(kind=kind)
    stale = check(nothing, FRESH, look=Look(target=times(60, 30, kind=kind))).results[0]
    assert (stale.failed, stale.rows, stale.share) == (1, 1, 1.0)
    assert stale.values == ("2026-01-31T11:30:00Z",)
    assert stale.message.endswith("30m ago: older than 15m")
    assert "still sends" in stale.recommendation
    assert check(nothing, FRESH, look=Look(target=times(60, 15, kind=kind))).results[0].passed


def test_freshness_of_dates() -> None:
    day = rule("freshness", column="at", max_age_s=86_400)
    kind = pa.date32()
    assert check(times(kind=kind), day, look=Look(target=times(60, kind=kind))).results[0].passed
    old = check(times(kind=kind), day, look=Look(target=times(60 * 30, kind=kind))).results[0]
    assert old.values == ("2026-01-30T00:00:00Z",)
    assert not old.passed


def test_a_table_without_a_value_is_not_fresh() -> None:
    found = check(times(), FRESH).results[0]
    assert found.message == "at has no value yet"
    assert not found.passed


def test_rows_in_quarantine_do_not_arrive() -> None:
    batch = times(1).append_column("n", pa.array([1]))
    found = check(
        batch,
        FRESH,
        rule("range", column="n", max=0, on_failure="quarantine"),
        look=Look(target=times(60)),
    )
    assert not found.results[0].passed


def test_a_time_beyond_the_years_of_python_is_told() -> None:
    far = pa.table({"at": pa.array([2**62], pa.int64()).cast(pa.timestamp("us", "UTC"))})
    assert "us after 1970" in check(far, FRESH).results[0].message


def test_freshness_may_abort_but_not_quarantine() -> None:
    with pytest.raises(QualityAbort, match="has no value yet"):
        check(times(), FRESH.model_copy(update={"on_failure": "abort"}))
    with pytest.raises(ValueError, match="no row to quarantine"):
        rule("freshness", column="at", max_age_s=1, on_failure="quarantine")
    with pytest.raises(RuleRefused, match="timestamps and dates"):
        RuleSet.of([FRESH]).fits(pa.schema([("at", pa.string())]))


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([3, 1, None]), '"x" IN (3, 1)'),
        (pa.array([-3]), '"x" IN (-3)'),
        (pa.array(range(2000)), '"x" BETWEEN 0 AND 1999'),
        (pa.array([f"{n:04}" for n in range(60)]), "\"x\" BETWEEN '0000' AND '0059'"),
        (pa.array(["it's"]), "\"x\" IN ('it''s')"),
        (pa.array([dt.date(2026, 1, 31)]), "\"x\" IN (CAST('2026-01-31' AS DATE))"),
        (
            pa.array([NOW], pa.timestamp("us", "UTC")),
            "\"x\" IN (CAST('2026-01-31T12:00:00.000000Z' AS TIMESTAMP))",
        ),
        (pa.array([2**62]).cast(pa.timestamp("us", "UTC")), None),
        (pa.array([None], pa.int64()), None),
        (pa.array([1.5]), None),
        (pa.array(["x" * 101]), None),
        (pa.array(["a\\b"]), None),
        (pa.array(["a"] * 200_001), None),
        (pa.array(["\n"]), None),
    ],
)
def test_only_what_can_match_is_read(column: pa.Array, wanted: str | None) -> None:
    assert at_most(pa.chunked_array([column]), "x") == wanted
