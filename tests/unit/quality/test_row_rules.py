"""Each rule that looks at rows alone: nulls, NaN, no rows, exact bounds, text of all kinds."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raylake.quality import custom
from raylake.quality import rules as rules_module
from raylake.quality.errors import CustomRuleFailed, QualityAbort, RuleRefused
from raylake.quality.rules import Context, RuleSet
from raylake.tables.errors import BadExpression, TimeWithoutZone, UnknownColumn
from tests.harness.quality import NOW, Look, check, failed, rule

UTC = dt.UTC


def table(values: list[Any], kind: pa.DataType, name: str = "x") -> pa.Table:
    return pa.table({name: pa.array(values, kind)})


def test_not_null_names_the_first_column_without_a_value() -> None:
    rows = pa.table({"a": [1, None, None, 4], "b": [None, 2, None, 4.0], "c": [None] * 4})
    found = check(rows, rule("not_null", columns=["b", "a"], on_failure="quarantine"))
    assert [(one.column, one.places.to_pylist()) for one in found.rejected] == [
        ("b", [0, 2]),
        ("a", [1]),
    ]
    assert found.rejected[0].reason == "b has no value"
    assert found.kept.to_pylist() == [False, False, False, True]
    assert (found.results[0].failed, found.results[0].rows) == (3, 4)
    assert found.results[0].rule == "not_null(b, a)"


def test_nan_is_a_value() -> None:
    assert failed(table([math.nan, None], pa.float64()), rule("not_null", columns=["x"])) == [1]


@pytest.mark.parametrize(
    ("kind", "values", "bounds", "bad"),
    [
        (pa.int32(), [0, 1, None, 5, 6], {"min": 1, "max": 5}, [0, 4]),
        (pa.int64(), [2**63 - 1, 2**62], {"max": 2**63 - 2}, [0]),
        (pa.int8(), [-128, 127], {"min": -1000, "max": 1000}, []),
        (pa.int8(), [-128, None, 127], {"min": 1000}, [0, 2]),
        (pa.uint8(), [0, 255], {"min": -1, "max": 256}, []),
        (pa.int16(), [0, 1, 2], {"min": 0.5, "max": "1.5"}, [0, 2]),
        (pa.float64(), [math.nan, None, math.inf, 0.1], {"min": 0}, [0]),
        (pa.float64(), [math.nan, None, math.inf, 0.1], {"max": 0.1}, [0, 2]),
        (pa.float32(), [0.1, 0.2], {"max": 0.1}, [1]),
        (pa.decimal128(18, 2), [Decimal("0.10"), Decimal("0.11"), None], {"max": 0.1}, [1]),
        (pa.decimal128(18, 2), [Decimal("0.10"), Decimal("0.11")], {"min": 0.105}, [0]),
        (pa.decimal128(4, 2), [Decimal("99.99"), None], {"max": 100}, []),
        (pa.decimal128(4, 2), [Decimal("99.99"), None], {"min": 100}, [0]),
        (pa.decimal128(38, 0), [Decimal(10**37 + 1)], {"max": str(10**37)}, [0]),
        (pa.string(), ["a", "b", "é", None], {"min": "b"}, [0]),
        (pa.date32(), [dt.date(2026, 1, 30), dt.date(2026, 1, 31)], {"min": "2026-01-31"}, [0]),
        (
            pa.timestamp("us", "UTC"),
            [NOW - dt.timedelta(microseconds=1), NOW],
            {"min": "2026-01-31T13:00:00+01:00"},
            [0],
        ),
        (
            pa.timestamp("us"),
            [(NOW - dt.timedelta(days=1)).replace(tzinfo=None), NOW.replace(tzinfo=None)],
            {"max": "2026-01-31T00:59:59"},
            [1],
        ),
    ],
)  # fmt: skip
def test_range_is_exact(kind: pa.DataType, values: list[Any], bounds: Any, bad: list[int]) -> None:
    assert failed(table(values, kind), rule("range", column="x", **bounds)) == bad


@pytest.mark.parametrize(
    ("kind", "bounds", "said"),
    [
        (pa.string(), {"min": 1}, "write it in quotes"),
        (pa.bool_(), {"min": 1}, "a range needs"),
        (pa.int32(), {"min": "many"}, "write a number"),
        (pa.int32(), {"min": True}, "write a number"),
        (pa.int32(), {"min": "1e5000"}, "write a number"),
        (pa.binary(), {"min": "a"}, "rules of this kind"),
        (pa.list_(pa.int32()), {"min": 1}, "rules of this kind"),
        (pa.date32(), {"min": "31.1.2026"}, "write a date"),
        (pa.timestamp("us", "UTC"), {"min": "2026-01-31T12:00:00"}, "without a zone"),
        (pa.timestamp("us"), {"min": "2026-01-31T12:00:00Z"}, "with a zone"),
        (pa.timestamp("us"), {"min": "noon"}, "2026-01-31T12:00:00"),
        (pa.duration("s"), {"min": 1}, "duration"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(kind: pa.DataType, bounds: Any, said: str) -> None:
    with pytest.raises(RuleRefused) as refused:
        RuleSet.of([rule("range", column="x", **bounds)]).fits(pa.schema([("x", kind)]))
    assert said in str(refused.value)


def test_a_pattern_is_for_the_whole_text() -> None:
    rows = table(["ab", "abc", "xab", None, "", "AB", "ab\n"], pa.string())
    assert failed(rows, rule("regex", column="x", pattern="a|ab")) == [1, 2, 4, 5, 6]
    assert failed(rows, rule("regex", column="x", pattern="(?i)ab|.*c|")) == [2, 6]
    many = table(["é1", "é", "é12"] * 100_000, pa.large_string())
    assert failed(many, rule("regex", column="x", pattern=r"é\d?"))[:2] == [2, 5]
    with pytest.raises(RuleRefused, match="long"):
        check(table([1], pa.int64()), rule("regex", column="x", pattern="a"))


@pytest.mark.parametrize("pattern", ["(?=a)", r"(a)\1", "(", "a)(?:b", r"\Qa", "a{5000}"])
def test_a_pattern_that_is_not_linear_or_none_is_refused_when_it_is_read(pattern: str) -> None:
    with pytest.raises(ValueError, match="does not compile"):
        rule("regex", column="x", pattern=pattern)


@pytest.mark.parametrize(
    ("kind", "values", "listed", "bad"),
    [
        (pa.string(), ["DE", None, "FR", ""], ["DE", "NO"], [2, 3]),
        (pa.large_string(), ["DE", "FR"], ["DE"], [1]),
        (pa.int64(), [1, None, 3], [1, 2], [2]),
        (pa.float64(), [0.5, math.nan, None], [0.5], [1]),
        (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("1.51")], [1.5, 2], [1]),
        (pa.bool_(), [True, False, None], ["true"], [1]),
        (pa.bool_(), [True, False, None], [False], [0]),
        (pa.date32(), [dt.date(2026, 1, 31), dt.date(2026, 2, 1)], ["2026-01-31"], [1]),
        (pa.timestamp("us", "UTC"), [NOW], ["2026-01-31T12:00Z"], []),
    ],
)  # fmt: skip
def test_in_set(kind: pa.DataType, values: list[Any], listed: list[Any], bad: list[int]) -> None:
    assert failed(table(values, kind), rule("in_set", column="x", values=listed)) == bad


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.string(), 1),
        (pa.int64(), 1.5),
        (pa.int8(), 300),
        (pa.decimal128(10, 2), "1.005"),
        (pa.decimal128(4, 2), 100),
        (pa.bool_(), "yes"),
        (pa.date32(), "x"),
    ],
)
def test_a_set_with_values_that_the_column_cannot_hold_is_refused(
    kind: pa.DataType, value: Any
) -> None:
    with pytest.raises(RuleRefused):
        RuleSet.of([rule("in_set", column="x", values=[value])]).fits(pa.schema([("x", kind)]))


def test_a_condition_that_is_unknown_is_no_failure() -> None:
    rows = pa.table({"a": [1, 2, None, 4], "b": [2, 1, 1, None], "s": ["1", "2", "x", "4"]})
    assert failed(rows, rule("sql", condition="a < b")) == [1]
    assert failed(rows, rule("sql", condition="A IS NOT NULL")) == [2]
    assert failed(rows, rule("sql", condition="true")) == []
    assert failed(rows, rule("sql", condition="1 > 2")) == [0, 1, 2, 3]
    assert failed(rows, rule("sql", condition="cast(s as int) >= 2")) == [0, 2]


def test_a_condition_that_no_row_can_be_judged_by_is_refused() -> None:
    rows = pa.table({"x": [1], "at": [dt.time(1)]})
    with pytest.raises(RuleRefused, match="cannot be judged"):
        check(rows, rule("sql", condition="at > x"))


def test_a_condition_on_a_point_in_time() -> None:
    rows = table([dt.datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC"))
    assert failed(rows, rule("sql", condition="x > timestamp '2026-01-01T00:30:00+01:00'")) == []
    assert failed(rows, rule("sql", condition="x > timestamp '2026-01-01T00:00:00Z'")) == [0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x > ", BadExpression),
        ("x", BadExpression),
        ("y > 1", UnknownColumn),
        ("x > (", BadExpression),
        ("x > (select 1)", BadExpression),
        ("t > '2026-01-01'", TimeWithoutZone),
    ],
)
def test_a_condition_that_is_none_is_refused(text: str, error: type[Exception]) -> None:
    schema = pa.schema([("x", pa.int64()), ("t", pa.timestamp("us", "UTC"))])
    with pytest.raises(error):
        RuleSet.of([rule("sql", condition=text)]).fits(schema)


def positive(rows: pa.Table) -> Any:
    return np.asarray(rows.column("x").to_pylist()) > 0


def unknown(rows: pa.Table) -> Any:
    return pa.array([None, False, True][: rows.num_rows])


def raises(rows: pa.Table) -> Any:
    raise KeyError("no column z")


def numbers(rows: pa.Table) -> Any:
    return pa.array([1] * rows.num_rows)


def short(rows: pa.Table) -> Any:
    return pa.array([True])


def test_a_function_of_a_module() -> None:
    rows = table([1, -1, 0], pa.int64())
    assert failed(rows, rule("custom", function=f"{__name__}:positive")) == [1, 2]
    assert failed(rows, rule("custom", function=f"{__name__}:unknown")) == [1]
    assert check(rows, rule("custom", function=f"{__name__}:positive")).results[0].values == ()


def test_a_function_of_a_file_is_loaded_once(tmp_path: Path) -> None:
    file = tmp_path / "rules.py"
    file.write_text(
        "import pyarrow.compute as pc\ncalls = []\n"
        "def even(rows):\n    calls.append(1)\n"
        "    return pc.equal(pc.bit_wise_and(rows.column('x'), len(calls)), 0)\n"
    )
    rules = RuleSet.of([rule("custom", function=f"{file}:even", on_failure="quarantine")])
    file.unlink()
    rows = table([1, 2, 4], pa.int64())
    context = Context(Look(rows, rows), NOW, "silver.t")
    assert rules.check(rows, context).kept.to_pylist() == [False, True, True]
    assert rules.check(rows, context).kept.to_pylist() == [True, False, True]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("no_such_module_here:f", "cannot be loaded: ModuleNotFoundError"),
        ("/nowhere/rules.py:f", "cannot be loaded: FileNotFoundError"),
        (f"{__name__}:nothing", "has no function 'nothing'"),
        (f"{__name__}:UTC", "has no function 'UTC'"),
    ],
)
def test_a_function_that_cannot_be_had(function: str, said: str) -> None:
    with pytest.raises(CustomRuleFailed, match=said):
        custom.load(function)


@pytest.mark.parametrize(
    ("name", "said"),
    [("raises", "KeyError: 'no column z'"), ("numbers", "no boolean"), ("short", "for each of 2")],
)
def test_a_function_that_fails(name: str, said: str) -> None:
    with pytest.raises(CustomRuleFailed, match=said):
        check(table([1, 2], pa.int64()), rule("custom", function=f"{__name__}:{name}"))


def test_many_rows_are_judged_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_ROWS_FOR_THREADS", 1)
    rows = pa.table({"x": [1, -1, 5], "s": ["a", "b", None]})
    found = check(
        rows,
        rule("custom", function=f"{__name__}:positive"),
        rule("range", column="x", max=4),
        rule("not_null", columns=["s"]),
        rule("regex", column="s", pattern="a", on_failure="quarantine"),
    )
    assert [one.failed for one in found.results] == [1, 1, 1, 1]
    assert found.kept.to_pylist() == [True, False, True]
    with pytest.raises(CustomRuleFailed):
        check(rows, rule("range", column="x", min=0), rule("custom", function=f"{__name__}:raises"))


@pytest.mark.parametrize(
    "one",
    [
        rule("not_null", columns=["x"]),
        rule("range", column="x", min=1),
        rule("in_set", column="x", values=[1]),
        rule("sql", condition="x > 1"),
        rule("unique", columns=["x"]),
        rule("custom", function=f"{__name__}:positive"),
    ],
    ids=lambda one: one.rule,
)
def test_no_rows_keep_every_rule(one: Any) -> None:
    found = check(table([], pa.int64()), one)
    assert found.results[0].passed
    assert found.results[0].message == "no rows came"
    assert found.results[0].share == 0.0


def test_severity_and_names_are_in_the_result(caplog: pytest.LogCaptureFixture) -> None:
    rows = table([1, 2, 3], pa.int64())
    caplog.set_level("DEBUG", "raylake.quality.rules")
    found = check(
        rows,
        rule("range", column="x", max=2, severity="info"),
        rule("range", column="x", max=1, severity="warning"),
        rule("range", column="x", max=0, name="none at all"),
    )
    assert [(one.rule, one.severity, one.failed) for one in found.results] == [
        ("range(x)", "info", 1),
        ("range(x)#2", "warning", 2),
        ("none at all", "error", 3),
    ]
    assert [one.levelname for one in caplog.records] == ["DEBUG", "WARNING", "ERROR"]
    assert found.kept.to_pylist() == [True] * 3
    assert found.results[1].message == ("2 of 3 rows (66.7 %): x is not at most 1; first: 2, 3")
    assert "widen the range" in found.results[1].recommendation


def test_an_abort_names_rule_count_and_the_first_values() -> None:
    rows = table(list(range(10)), pa.int64())
    with pytest.raises(QualityAbort) as aborted:
        check(
            rows,
            rule("range", column="x", max=8, on_failure="quarantine"),
            rule("range", column="x", max=2, min=0, on_failure="abort"),
        )
    assert aborted.value.code == "quality_abort"
    assert aborted.value.context == {
        "table": "silver.orders",
        "rule": "range(x)#2",
        "failed": 7,
        "rows": 10,
        "values": ["3", "4", "5", "6", "7"],
    }
    assert "nothing was written" in str(aborted.value)
    kept = check(rows, rule("range", column="x", max=9, on_failure="abort"))
    assert kept.kept.to_pylist() == [True] * 10


def test_a_row_leaves_once_under_the_first_rule_that_it_breaks() -> None:
    rows = pa.table({"x": [1, 5, 9], "s": ["a", "b", "b"]})
    found = check(
        rows,
        rule("range", column="x", max=4, on_failure="quarantine"),
        rule("in_set", column="s", values=["a"], on_failure="quarantine"),
        rule("sql", condition="x < 5", on_failure="quarantine"),
        rule("not_null", columns=["x"]),
    )
    assert [(one.rule, one.places.to_pylist()) for one in found.rejected] == [("range(x)", [1, 2])]
    assert [one.failed for one in found.results] == [2, 2, 2, 0]


def test_a_column_that_is_not_there_is_told_with_the_nearest_one() -> None:
    for one in (rule("not_null", columns=["amuont"]), rule("range", column="amuont", min=1)):
        with pytest.raises(RuleRefused) as refused:
            RuleSet.of([one]).fits(pa.schema([("amount", pa.int64())]), "silver.orders")
        assert "silver.orders has no column 'amuont'" in refused.value.message
        assert refused.value.hint == "did you mean 'amount'?"
        assert refused.value.context["column"] == "amuont"
    with pytest.raises(RuleRefused):
        check(table([1], pa.int64(), "amount"), rule("not_null", columns=["x"]))


def test_two_rules_of_one_name_are_refused() -> None:
    one = rule("not_null", columns=["x"], name="n")
    with pytest.raises(RuleRefused, match="named 'n'"):
        RuleSet.of([one, one])


def test_names_that_are_made_are_free() -> None:
    rules = RuleSet.of(
        [
            rule("not_null", columns=["x"]),
            rule("not_null", columns=["x"], name="not_null(x)"),
            rule("sql", condition="x = 1 or " * 20 + "true"),
            rule("custom", function=f"{__name__}:positive"),
        ]
    )
    names = [one.name for one in rules.rules]
    assert names[:2] == ["not_null(x)#2", "not_null(x)"]
    assert names[2].endswith("…)")
    assert names[3] == f"custom({__name__}:positive)"


def test_rules_are_told_apart_by_when_they_are_judged() -> None:
    rules = RuleSet.of(
        [rule("not_null", columns=["x"], when="before"), rule("not_null", columns=["y"])], ["k"]
    )
    assert [one.name for one in rules.before.rules] == ["not_null(x)"]
    assert [one.name for one in rules.after.rules] == ["not_null(y)"]
    assert rules.after.keys == ("k",)
