"""docs/failures.md says what the tests' names say, and every row has a test or says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.failure_report import (
    PAGE,
    Shown,
    all_tests,
    known_rows,
    numbers_of,
    open_rows,
    page,
    shown_by,
)

_LIST = Path(__file__).resolve().parents[3] / "shared" / "FAILURES.md"


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_failure_01_kills", ["01"]),
        ("test_failure_07_12_40_partitions_move", ["07", "12", "40"]),
        ("test_failure_32_and_35_a_killed_driver", ["32", "35"]),
        ("test_failure_14_999_good_and_1_bad", ["14"]),
        ("test_failure_38_messages_of_100_mb", ["38"]),
        ("test_failure_report_01_x", []),
        ("test_property_05_exactly_once", []),
        ("test_a_failure_01_x", []),
    ],
)
def test_a_name_tells_its_rows(name: str, numbers: list[str]) -> None:
    assert numbers_of(name) == numbers


def test_tests_are_found_in_functions_and_classes_and_nowhere_else() -> None:
    text = (
        "def test_failure_01_a(): ...\n"
        "class TestIt:\n    @pytest.mark.long\n    async def test_failure_02_b(self): ...\n"
        "# def test_failure_03_c(): ...\n"
        "x = 'test_failure_04_d'\n"
    )
    found = list(shown_by("tests/chaos/test_x.py", text))
    path = "tests/chaos/test_x.py"
    assert found == [
        ("01", Shown(path, "test_failure_01_a")),
        ("02", Shown(path, "test_failure_02_b", long=True)),
    ]


def test_a_row_of_the_page_counts_its_tests_and_says_what_is_open() -> None:
    tests = {
        "01": [
            Shown("tests/chaos/test_b.py", "test_failure_01_b"),
            Shown("tests/chaos/test_b.py", "test_failure_01_c"),
            Shown("tests/unit/test_a.py", "test_failure_01_a"),
        ],
        "02": [Shown("tests/unit/test_a.py", "test_failure_02_a")],
    }
    text = page({"01": "one", "02": "two", "03": "three"}, tests, {"03": "comes later"})
    real, unit = (
        "[chaos/test_b](../tests/chaos/test_b.py)",
        "[unit/test_a](../tests/unit/test_a.py)",
    )
    assert text.splitlines()[-3:] == [
        f"| 01 | one | 2 real, 1 unit: {real} ×2, {unit} |  |",
        f"| 02 | two | 1 unit: {unit} |  |",
        "| 03 | three | **nothing yet** | comes later |",
    ]


def test_every_test_names_rows_of_the_list() -> None:
    assert all_tests().keys() <= known_rows().keys()


def test_a_row_that_is_shown_on_real_components_is_shown_by_make_test() -> None:
    for number, tests in all_tests().items():
        real = [test for test in tests if test.real]
        assert not real or not all(test.long for test in real), number


def test_a_row_without_a_test_says_what_is_open() -> None:
    assert known_rows().keys() - all_tests().keys() <= open_rows().keys()


def test_what_is_open_names_rows_and_says_why() -> None:
    lacks = open_rows()
    assert lacks.keys() <= known_rows().keys()
    assert all(text.strip() for text in lacks.values())
    assert list(lacks) == [row for row in known_rows() if row in lacks], "in the rows' order"


def test_the_page_is_what_the_names_of_the_tests_say() -> None:
    wanted = page(known_rows(), all_tests(), open_rows())
    assert PAGE.read_text(encoding="utf-8") == wanted, "`make failures` writes it anew"


if _LIST.exists():  # the list is not part of the repository

    def test_the_rows_are_those_of_the_failure_list() -> None:
        text = _LIST.read_text(encoding="utf-8")
        numbers = re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)
        assert list(known_rows()) == [f"{int(number):02d}" for number in numbers]
