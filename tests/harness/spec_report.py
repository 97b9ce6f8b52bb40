"""``make spec``: each row of the specification, with the tests that show it on real components.

A test says which rows it shows with ``@pytest.mark.spec("A3", …)``; a property says it by its name,
``test_property_NN_…``. Tests are found by collecting them, not by searching their text. Tests under
``tests/unit`` and ``tests/property`` alone leave a row open; a property (rows L) may stand in
``tests/property``. What a row still lacks, tests or not, stands in ``spec_partly.txt``.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROWS = Path(__file__).with_name("spec_rows.txt")
PARTLY = Path(__file__).with_name("spec_partly.txt")
_PROPERTY = re.compile(r"test_property_(\d{2})_")


def known_rows() -> dict[str, str]:
    """Row id → short title, in the specification's order."""
    return _table(ROWS)


def partly_open() -> dict[str, str]:
    """Row id → what the row still lacks."""
    return _table(PARTLY)


def _table(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


class Collected:
    """A pytest plugin that keeps, for each row, the tests that name it.

    Attributes:
        tests: Row → tests.
        quick: Those of the tests of which a case is run by `make test`.
        errors: Files that could not be collected.
    """

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = {}
        self.quick: set[str] = set()
        self.errors: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            name = item.nodeid.split("[")[0].split("@")[0]
            rows = {row for marker in item.iter_markers("spec") for row in marker.args}
            if item.get_closest_marker("long") is None:
                self.quick.add(name)
            if found := _PROPERTY.match(item.name):
                rows.add(f"L{int(found.group(1))}")
            for row in rows:
                tests = self.tests.setdefault(row, [])
                if name not in tests:
                    tests.append(name)


def showing(row: str, tests: Iterable[str]) -> list[str]:
    """Those of a row's tests that show it."""
    not_shown_by = ("tests/unit/",) if row.startswith("L") else ("tests/unit/", "tests/property/")
    return [test for test in tests if not test.startswith(not_shown_by)]


def row_line(row: str, tests: Iterable[str], lacks: str = "") -> str:
    """One line: ``A3 2 tests: path::name, …``, ``A8 partly: 1 test: …; open: …`` or ``A5 open``."""
    every = sorted(tests)
    if shown := showing(row, every):
        line = f"{len(shown)} test{'s' * (len(shown) > 1)}: {', '.join(shown)}"
        return f"{row} partly: {line}; open: {lacks}" if lacks else f"{row} {line}"
    return f"{row} open (unit tests only: {len(every)})" if every else f"{row} open"


def collect(arguments: list[str]) -> tuple[Collected, str]:
    """Collect the tests named by ``arguments`` (all of them when empty); also pytest's output."""
    plugin = Collected()
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main(["--collect-only", "-q", *arguments], plugins=[plugin])
    if status not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} and not plugin.errors:
        plugin.errors.append(f"pytest ended with status {int(status)}")
    return plugin, output.getvalue()


def main(arguments: list[str]) -> int:
    """Print the report.

    Returns:
        1 when a test file could not be collected, or long tests alone show a row.
    """
    plugin, output = collect(arguments)
    lacks, by_chaos = partly_open(), []
    for row in known_rows():
        tests = plugin.tests.get(row, ())
        print(row_line(row, tests, lacks.get(row, "")))
        shown = showing(row, tests)
        by_chaos += [row] if shown and plugin.quick.isdisjoint(shown) else []
    if by_chaos:
        print("shown by `make chaos` alone: " + ", ".join(by_chaos), file=sys.stderr)
    if plugin.errors:
        print(output, "not collected: " + ", ".join(plugin.errors), sep="\n", file=sys.stderr)
    return 1 if plugin.errors or by_chaos else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
