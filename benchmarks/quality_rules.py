"""Ten quality rules on a million rows: ours beside pandera (pandas, polars) and dataframely.

Each round gives all of them the same rows, by turns, in this process. Ours is ``RuleSet.check``
with an empty table to be unique in and one of 50,000 rows to refer to: it tells good rows from bad
ones, counts by rule, and has each failing value's text. pandera's ``validate(lazy=True)`` gives
every failing value, dataframely's ``filter`` good and bad rows, both counts by rule; making their
frame of the rows is not counted. All must find the same failures of each rule. Then each
of our rules alone, and the seven categories on 100,000 rows of 20 columns.

The peers are no dependencies of RayLake's: ``pip install 'pandera[pandas,polars]' dataframely``
into its environment; ``--peers ''`` measures ours alone. The aim is held against the first one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import logging
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from bed import closing, table
from pydantic import TypeAdapter

from raylake.config.quality import Rule
from raylake.quality.categories import check as check_categories
from raylake.quality.past import Past
from raylake.quality.rules import Context, RuleSet
from raylake.tables.requests import Read

AIM, AIM_RULE_MS, AIM_CATEGORIES_MS = 2.0, 100.0, 100.0
NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
BEGAN_US = 1_767_225_600_000_000
CUSTOMERS = 50_000
EMAIL = r"[a-z0-9.]+@[a-z]+\.[a-z]{2,}"
COUNTRIES = ["DE", "NO", "US"]
RULES: list[dict[str, Any]] = [
    {"rule": "not_null", "columns": ["customer"]},
    {"rule": "unique", "columns": ["order_id"]},
    {"rule": "range", "column": "amount", "min": 0, "max": 9999},
    {"rule": "range", "column": "rate", "max": 0.999},
    {"rule": "range", "column": "quantity", "min": 1, "max": 99},
    {"rule": "range", "column": "ordered_at", "min": "2026-01-01T00:00:10Z"},
    {"rule": "regex", "column": "email", "pattern": EMAIL},
    {"rule": "in_set", "column": "country", "values": COUNTRIES},
    {"rule": "sql", "condition": "quantity < 50 or rate < 0.99"},
    {"rule": "foreign_key", "column": "customer", "references": "silver.customers"},
]


class Spent(NamedTuple):
    """Seconds on the wall's clock, and of the CPU in all threads."""

    wall_s: float
    cpu_s: float


class Look:
    """An empty table, and the customers."""

    def __init__(self, rows: pa.Table, customers: pa.Table) -> None:
        self._nothing = rows.schema.empty_table()
        self._customers = customers

    def source(self, request: Read) -> pa.RecordBatchReader:
        """No rules are judged before the transformation."""
        raise NotImplementedError

    def target(self, request: Read) -> pa.RecordBatchReader:
        """The table, which is empty."""
        return self._nothing.select(list(request.columns or ())).to_reader()

    def target_rows(self) -> int | None:
        """See :class:`raylake.layers.derived.Look`."""
        return None

    def other(self, table: str, request: Read) -> pa.RecordBatchReader:
        """The customers."""
        del table, request
        return self._customers.to_reader()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="pandera_pandas,pandera_polars,dataframely")
    chosen = parser.parse_args()
    names = [name for name in chosen.peers.split(",") if name]
    missing = [name for name in names if importlib.util.find_spec(name.split("_")[0]) is None]
    if missing:
        print(f"{missing[0]} is not installed: pip install 'pandera[pandas,polars]' dataframely,")
        print("or name those that are: --peers dataframely")
        return 2
    logging.getLogger("raylake").setLevel(logging.CRITICAL)
    rows = _rows(chosen.rows)
    customers = pa.table({"customer": [f"c{number}" for number in range(CUSTOMERS)]})
    context = Context(Look(rows, customers), NOW, "silver.orders")
    adapter: TypeAdapter[Any] = TypeAdapter(Rule)
    rules = [adapter.validate_python({**one, "on_failure": "quarantine"}) for one in RULES]
    peers = {name: _PEERS[name](rows, customers) for name in names}
    spent: dict[str, list[Spent]] = {name: [] for name in ("ours", *names)}
    counts: dict[str, list[int]] = {}
    for _ in range(chosen.rounds + 1):
        spent["ours"].append(_timed(lambda: RuleSet.of(rules).check(rows, context))[0])
        for name, run in peers.items():
            took, counts[name] = _timed(run)
            spent[name].append(took)
    # Where no row leaves, unique is judged on all of them, as by the peers.
    stay = [one.model_copy(update={"on_failure": "continue"}) for one in rules]
    failed = [one.failed for one in RuleSet.of(stay).check(rows, context).results]
    for name, found in counts.items():
        if found != failed:
            print(f"ours and {name} disagree: {failed} and {found}")
            return 1
    # The first round is the warm-up.
    single = {one.rule: _alone(one, rows, context, chosen.rounds) for one in rules}
    print(f"{chosen.rows:,} rows; each rule alone, the longest of its kind:")
    table([[name, 1000 * s.wall_s, 1000 * s.cpu_s] for name, s in single.items()],
          ["rule", "ms", "CPU ms"])  # fmt: skip
    medians = {name: _median(each[1:]) for name, each in spent.items()}
    return _tell(medians, single, _categories(rows, chosen.rounds))


def _tell(medians: dict[str, Spent], single: dict[str, Spent], categories: Spent) -> int:
    shown = [[f"{name}, ten rules", 1000 * s.wall_s, 1000 * s.cpu_s] for name, s in medians.items()]
    shown.append(["seven categories", 1000 * categories.wall_s, 1000 * categories.cpu_s])
    table(shown, ["", "ms", "CPU ms"])
    mine = medians.pop("ours")
    wall = {f"{name}_ratio_wall": s.wall_s / mine.wall_s for name, s in medians.items()}
    cpu = {f"{name}_ratio_cpu": s.cpu_s / mine.cpu_s for name, s in medians.items()}
    longest = 1000 * max(one.wall_s for one in single.values())
    categories_ms = 1000 * categories.wall_s
    closing("quality_rules", **wall, **cpu, longest_rule_ms=longest, categories_ms=categories_ms)
    reached = next(iter(wall.values()), AIM) >= AIM
    return 0 if reached and longest <= AIM_RULE_MS and categories_ms <= AIM_CATEGORIES_MS else 1


def _rows(count: int) -> pa.Table:
    """Orders; of each thousand one breaks each rule."""
    made = np.random.default_rng(7)
    numbers = np.arange(count)
    bad = {name: numbers % 1000 == at for at, name in enumerate(("null", "twice", "mail", "land"))}
    ids = made.permutation(count)
    ids[bad["twice"]] = ids[0]
    customer = made.integers(0, CUSTOMERS + 50, count)
    return pa.table(
        {
            "order_id": [f"o{number:09}" for number in ids],
            "customer": pa.array([f"c{n}" for n in customer], mask=bad["null"]),
            "email": [
                f"user{n}" if wrong else f"user{n}@example.com"
                for n, wrong in zip(numbers, bad["mail"], strict=True)
            ],
            "country": np.where(bad["land"], "XX", np.array(COUNTRIES)[numbers % 3]),
            "amount": pa.array(made.integers(-10, 10_000, count)),
            "rate": made.random(count),
            "quantity": pa.array(made.integers(0, 100, count), pa.int32()),
            "ordered_at": pa.array(BEGAN_US + numbers * 1000).cast(pa.timestamp("us", "UTC")),
        }
    )


def _dataframely(rows: pa.Table, customers: pa.Table) -> Callable[[], list[int]]:
    """The same rules by dataframely; returns the failures of each, in our order."""
    import dataframely as dy
    import polars as pl

    known = pl.Series(customers.column("customer").to_pylist())
    start = dt.datetime(2026, 1, 1, 0, 0, 10, tzinfo=dt.UTC)

    class Orders(dy.Schema):
        order_id = dy.String(nullable=True)
        customer = dy.String(nullable=False)
        email = dy.String(nullable=True, regex=f"^(?:{EMAIL})$")
        country = dy.String(nullable=True, check={"in_set": lambda c: c.is_in(COUNTRIES)})
        amount = dy.Int64(nullable=True, check={"range": lambda c: c.is_between(0, 9999)})
        rate = dy.Float64(nullable=True, check={"range": lambda c: c <= 0.999})
        quantity = dy.Int32(nullable=True, check={"range": lambda c: c.is_between(1, 99)})
        ordered_at = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us", min=start)

        @dy.rule()
        def unique(cls) -> pl.Expr:  # noqa: N805
            return pl.col("order_id").is_first_distinct()

        @dy.rule()
        def sql(cls) -> pl.Expr:  # noqa: N805
            return (pl.col("quantity") < 50) | (pl.col("rate") < 0.99)

        @dy.rule()
        def foreign_key(cls) -> pl.Expr:  # noqa: N805
            return pl.col("customer").is_in(known.implode()) | pl.col("customer").is_null()

    frame = pl.from_arrow(rows)
    names = [
        "customer|nullability", "unique", "amount|check__range", "rate|check__range",
        "quantity|check__range", "ordered_at|min", "email|regex", "country|check__in_set", "sql",
        "foreign_key",
    ]  # fmt: skip

    def run() -> list[int]:
        _, failures = Orders.filter(frame)
        counts = failures.counts()
        return [int(counts.get(name, 0)) for name in names]

    return run


def _pandera_polars(rows: pa.Table, customers: pa.Table) -> Callable[[], list[int]]:
    """The same rules by pandera on polars; returns the failures of each, in our order."""
    import pandera.polars as pp
    import polars as pl

    known = pl.Series(customers.column("customer").to_pylist())

    def is_known(data: Any) -> Any:
        one = pl.col(data.key)
        return data.lazyframe.select(one.is_in(known.implode()) | one.is_null())

    def holds(data: Any) -> Any:
        return data.lazyframe.select((pl.col("quantity") < 50) | (pl.col("rate") < 0.99))

    schema = _schema(pp, is_known, holds)
    frame = pl.from_arrow(rows)
    return lambda: _counts(pp, schema, frame, lambda f: dict(f.group_by("check").len().rows()))


def _pandera_pandas(rows: pa.Table, customers: pa.Table) -> Callable[[], list[int]]:
    """The same rules by pandera on pandas; returns the failures of each, in our order."""
    import pandera.pandas as pp

    known = set(customers.column("customer").to_pylist())
    schema = _schema(
        pp,
        lambda column: column.isin(known),
        lambda frame: (frame["quantity"] < 50) | (frame["rate"] < 0.99),
    )
    frame = rows.to_pandas()
    return lambda: _counts(pp, schema, frame, lambda f: f.groupby("check")["index"].nunique())


def _schema(pp: Any, is_known: Callable[[Any], Any], holds: Callable[[Any], Any]) -> Any:
    start = dt.datetime(2026, 1, 1, 0, 0, 10, tzinfo=dt.UTC)
    checks = {
        "email": pp.Check.str_matches(f"^(?:{EMAIL})$", error="email"),
        "country": pp.Check.isin(COUNTRIES, error="country"),
        "amount": pp.Check.in_range(0, 9999, error="amount"),
        "rate": pp.Check.le(0.999, error="rate"),
        "quantity": pp.Check.in_range(1, 99, error="quantity"),
        "ordered_at": pp.Check.ge(start, error="ordered_at"),
    }
    columns = {name: pp.Column(None, check, nullable=True) for name, check in checks.items()}
    columns["order_id"] = pp.Column(None, nullable=True)
    columns["customer"] = pp.Column(None, pp.Check(is_known, error="fk"), nullable=False)
    return pp.DataFrameSchema(columns, pp.Check(holds, error="sql"), unique=["order_id"])


def _counts(pp: Any, schema: Any, frame: Any, by_check: Callable[[Any], Any]) -> list[int]:
    try:
        schema.validate(frame, lazy=True)
    except pp.errors.SchemaErrors as error:
        found = by_check(error.failure_cases)
    counts = [int(found.get(name, 0)) for name in _CHECKS]
    # It counts the first of those that agree as well.
    counts[1] -= 1
    return counts


_CHECKS = [
    "not_nullable", "multiple_fields_uniqueness", "amount", "rate", "quantity", "ordered_at",
    "email", "country", "sql", "fk",
]  # fmt: skip
_PEERS = {
    "pandera_pandas": _pandera_pandas,
    "pandera_polars": _pandera_polars,
    "dataframely": _dataframely,
}


def _alone(rule: Any, rows: pa.Table, context: Context, rounds: int) -> Spent:
    rules = RuleSet.of([rule])
    return _median([_timed(lambda: rules.check(rows, context))[0] for _ in range(rounds)])


def _categories(rows: pa.Table, rounds: int) -> Spent:
    """On 100,000 rows with 20 columns, beside a history."""
    batch = rows.slice(0, 100_000)
    names = [f"column_{number}" for number in range(20)]
    batch = pa.table([batch.column(n % len(batch.columns)) for n in range(20)], names)
    past = Past()
    for _ in range(4):
        past = past.then(check_categories(batch, past, NOW))
    return _median([_timed(lambda: check_categories(batch, past, NOW))[0] for _ in range(rounds)])


def _timed(work: Callable[[], Any]) -> tuple[Spent, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    return Spent(time.perf_counter() - began, time.process_time() - cpu), found


def _median(rounds: list[Spent]) -> Spent:
    return Spent(median(one.wall_s for one in rounds), median(one.cpu_s for one in rounds))


if __name__ == "__main__":
    sys.exit(main())
