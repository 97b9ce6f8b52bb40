"""``make failures``: writes docs/failures.md, each row of the failure list with its tests.

A test says which rows it shows by its name: ``test_failure_NN_…``, several numbers where it shows
several (``test_failure_07_12_40_…``, ``test_failure_32_and_35_…``). Names are read from syntax
trees, so that a unit test can hold the page to them. What a row still lacks, tests or not, stands
in ``failure_open.txt``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = Path(__file__).with_name("failure_rows.txt")
OPEN = Path(__file__).with_name("failure_open.txt")
PAGE = ROOT / "docs" / "failures.md"
_NAME = re.compile(r"test_failure((?:(?:_and)?_\d{2}(?=_))+)_")
_UNIT = ("tests/unit/", "tests/property/")
_LONG = "pytest.mark.long"
_HEAD = """\
# Failures, and the tests that show them

Written by `make failures` from the names of the tests; a test holds it to them. *Shown by* counts
the tests on real components (a broker, Ray, Delta files) as *real*, and those of `tests/unit` and
`tests/property` as *unit*. *Open* says what a row still lacks.

| # | failure | shown by | open |
|---|---|---|---|
"""


@dataclass(frozen=True, order=True)
class Shown:
    """One test that shows a row.

    Attributes:
        path: Its file, from the root, with slashes.
        name: Its function.
        long: Whether all of it is run by `make chaos` alone.
    """

    path: str
    name: str
    long: bool = False

    @property
    def real(self) -> bool:
        """Whether it stands where real components are used."""
        return not self.path.startswith(_UNIT)


def numbers_of(name: str) -> list[str]:
    """The rows that a test's name tells, two digits each; empty when it tells none."""
    found = _NAME.match(name)
    return re.findall(r"\d{2}", found[1]) if found else []


def known_rows() -> dict[str, str]:
    """Number → what goes wrong, in the list's order."""
    return _table(ROWS)


def open_rows() -> dict[str, str]:
    """Number → what the row still lacks."""
    return _table(OPEN)


def _table(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def shown_by(path: str, text: str) -> Iterator[tuple[str, Shown]]:
    """Row and test, for each test of a module whose name tells rows."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            long = any(ast.unparse(one) == _LONG for one in node.decorator_list)
            for number in numbers_of(node.name):
                yield number, Shown(path, node.name, long)


@cache
def all_tests() -> dict[str, list[Shown]]:
    """Row → its tests, sorted."""
    found: dict[str, list[Shown]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        path = file.relative_to(ROOT).as_posix()
        for number, test in shown_by(path, file.read_text(encoding="utf-8")):
            found.setdefault(number, []).append(test)
    return {number: sorted(tests) for number, tests in found.items()}


def page(
    rows: Mapping[str, str], tests: Mapping[str, list[Shown]], lacks: Mapping[str, str]
) -> str:
    """The whole page."""
    lines = [
        f"| {number} | {title} | {_cell(tests.get(number, []))} | {lacks.get(number, '')} |"
        for number, title in rows.items()
    ]
    return _HEAD + "\n".join([*lines, ""])


def _cell(tests: list[Shown]) -> str:
    if not tests:
        return "**nothing yet**"
    real = sum(test.real for test in tests)
    counts = [f"{real} real"] if real else []
    counts += [f"{len(tests) - real} unit"] if real < len(tests) else []
    files: dict[str, int] = {}
    for test in sorted(tests, key=lambda test: (not test.real, test)):
        files[test.path] = files.get(test.path, 0) + 1
    links = [
        f"[{path.removeprefix('tests/').removesuffix('.py')}](../{path})"
        + (f" ×{count}" if count > 1 else "")
        for path, count in files.items()
    ]
    return f"{', '.join(counts)}: {', '.join(links)}"


def main() -> int:
    """Write the page; 1 when a test names a row that there is not."""
    tests = all_tests()
    unknown = {test.name for number in tests.keys() - known_rows() for test in tests[number]}
    if unknown:
        print(f"rows that are not in the list: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    PAGE.write_text(page(known_rows(), tests, open_rows()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
