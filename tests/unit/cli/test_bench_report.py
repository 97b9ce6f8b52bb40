"""What `raylake bench` prints of its figures."""

from __future__ import annotations

import json

from rich.console import Console

from raylake.cli.bench import document, kernels, one_by_one, show
from raylake.client.bench import STAGES, Kernels, TableBench


def _found() -> TableBench:
    found = TableBench("bronze.orders", ["orders"], 4, Kernels(0.6, 0))
    found.records, found.rows, found.dead = 1000, 990, 10
    found.cpu_s, found.wall_s = 0.002, 0.001
    for number, name in enumerate(STAGES, 1):
        found.stage(name).cpu_s = number * 1e-4
        found.stage(name).bytes = 200_000
    found.one_by_one = 15
    found.reasons = {"dead letter: InvalidJson": 10, "a row with _rescued_data": 5}
    return found


def _said(found: TableBench, *, stages: bool = True) -> str:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        show(found, console, stages=stages)
    return captured.get()


def test_stages_and_what_is_between_them_are_the_whole() -> None:
    lines = [line.split() for line in _said(_found()).splitlines()]
    costs = {line[0]: line[-5:] for line in lines if line[-1:] == ["%"] and "CPU" not in line}
    assert costs["fetch:"][1:] == ["0.100", "2,000", "5", "%"]
    assert costs["commit"][1:] == ["0.500", "400", "25", "%"]
    assert costs["between"][-3:] == ["0.500", "25", "%"]
    assert costs["whole"][-3:] == ["2.000", "100", "%"]


def test_the_rates_and_the_reasons() -> None:
    said = _said(_found(), stages=False)
    assert "1,000 records of 4 partitions: 990 rows, 10 dead letters" in said
    assert "500,000 records per CPU-second, 1,000,000 per second" in said
    assert "15 (1.50 %): 10 dead letter: InvalidJson, 5 a row with _rescued_data" in said
    assert "fetch" not in said


def test_reasons_beyond_the_first_ones_are_summed_up() -> None:
    found = _found()
    found.reasons = {f"dead letter: R{number}": number for number in range(1, 9)}
    assert one_by_one(found).endswith("4 dead letter: R4, 6 others")
    found.one_by_one, found.reasons = 0, {}
    assert one_by_one(found) == "decoded one by one: 0 (0.00 %)"
    found.one_by_one = None
    assert "not decoded" in one_by_one(found)


def test_new_columns_are_told_because_they_cost() -> None:
    found = _found()
    assert "new columns" not in _said(found)
    found.grown = 2
    assert "new columns: added 2 times" in _said(found)


def test_cold_kernels_are_told() -> None:
    found = _found()
    assert "warm" in kernels(found)
    found.kernels = Kernels(40.0, 3)
    assert "3 compiled in 40.0 s" in kernels(found)


def test_the_document_is_json_and_holds_the_rates() -> None:
    told = json.loads(json.dumps(document(_found())))
    assert told["records_per_s"] == 1_000_000
    assert told["between_s"] * 1e3 == 0.5
    assert [stage["name"] for stage in told["stages"]] == list(STAGES)


def test_nothing_is_divided_by_nothing() -> None:
    empty = TableBench("bronze.a", [], 0, Kernels(0.0, 0))
    assert "0 records" in _said(empty)
    assert document(empty)["records_per_s"] == 0
