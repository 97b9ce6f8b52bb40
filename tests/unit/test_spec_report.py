"""The report names a row's tests, and calls a row open that no acceptance test shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.spec_report import Collected, known_rows, partly_open, row_line

_SPEC = Path(__file__).resolve().parents[3] / "shared" / "SPEC.md"


@pytest.mark.parametrize(
    ("row", "tests", "line"),
    [
        ("A5", [], "A5 open"),
        ("A5", ["tests/unit/a.py::test_a"], "A5 open (unit tests only: 1)"),
        ("A5", ["tests/unit/a.py::t", "tests/property/b.py::t"], "A5 open (unit tests only: 2)"),
        (
            "A3",
            ["tests/unit/a.py::t", "tests/integration/b.py::t"],
            "A3 1 test: tests/integration/b.py::t",
        ),
        (
            "A3",
            ["tests/integration/b.py::t", "tests/chaos/a.py::t"],
            "A3 2 tests: tests/chaos/a.py::t, tests/integration/b.py::t",
        ),
        ("L5", ["tests/property/b.py::t"], "L5 1 test: tests/property/b.py::t"),
        ("L5", ["tests/unit/b.py::t"], "L5 open (unit tests only: 1)"),
    ],
)
def test_a_row_takes_one_line(row: str, tests: list[str], line: str) -> None:
    assert row_line(row, tests) == line


def test_a_row_that_lacks_something_says_what() -> None:
    test = "tests/integration/b.py::t"
    assert row_line("A8", [test], "scaling") == f"A8 partly: 1 test: {test}; open: scaling"
    assert row_line("A8", ["tests/unit/a.py::t"], "scaling") == "A8 open (unit tests only: 1)"
    assert row_line("A8", [], "scaling") == "A8 open"


def test_rows_that_lack_something_are_rows_and_say_what() -> None:
    lacks = partly_open()
    assert lacks
    assert lacks.keys() <= known_rows().keys()
    assert all(text.strip() for text in lacks.values())
    assert list(lacks) == [row for row in known_rows() if row in lacks], "in the rows' order"


class _Item:
    def __init__(self, nodeid: str, *rows: str, long: bool = False) -> None:
        self.nodeid = nodeid
        self.name = nodeid.rsplit("::", maxsplit=1)[-1]
        self._marks = [pytest.mark.spec(row).mark for row in rows]
        self._long = pytest.mark.long.mark if long else None

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        assert name == "spec"
        return self._marks

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        assert name == "long"
        return self._long


def test_rows_come_from_markers_and_from_the_names_of_properties() -> None:
    plugin = Collected()
    plugin.pytest_collection_modifyitems(
        [
            _Item("tests/integration/a.py::test_a[1]", "A1", "A3"),
            _Item("tests/integration/a.py::test_a[2]", "A1", "A3", long=True),
            _Item("tests/integration/a.py::test_long", "A4", long=True),
            _Item("tests/property/b.py::test_property_05_exactly_once", "A3"),
            _Item("tests/property/b.py::test_other"),
        ]
    )
    assert plugin.tests == {
        "A1": ["tests/integration/a.py::test_a"],
        "A3": [
            "tests/integration/a.py::test_a",
            "tests/property/b.py::test_property_05_exactly_once",
        ],
        "A4": ["tests/integration/a.py::test_long"],
        "L5": ["tests/property/b.py::test_property_05_exactly_once"],
    }
    assert set().union(*plugin.tests.values()) - plugin.quick == {
        "tests/integration/a.py::test_long"
    }


if _SPEC.exists():  # the specification is not part of the repository

    def test_the_rows_are_those_of_the_specification() -> None:
        text = _SPEC.read_text(encoding="utf-8")
        letters = re.findall(r"^- ([A-K]\d+) ", text, flags=re.MULTILINE)
        properties = text.split("## L. Properties")[1]
        numbers = re.findall(r"(?:^|· ?)(\d+) [A-Za-z]", properties, flags=re.MULTILINE)
        assert list(known_rows()) == letters + [f"L{number}" for number in numbers]
