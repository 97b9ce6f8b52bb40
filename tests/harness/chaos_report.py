"""The chaos report: faults injected and recovered without an operator, over all tests (SPEC B1).

Each test's numbers travel to the controlling process with its report, so that they add up also
with several workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

LEAST_RECOVERED = 0.95
_KEY = "chaos"


@dataclass
class Tally:
    """Faults of one test.

    Attributes:
        injected: That hit.
        recovered: Of those, after which the account was exact without anyone's help.
    """

    injected: int = 0
    recovered: int = 0


class ChaosReport:
    """Adds up the tallies."""

    def __init__(self) -> None:
        self.total = Tally()
        self.tests = 0

    @property
    def share(self) -> float:
        """Recovered of injected."""
        return self.total.recovered / self.total.injected if self.total.injected else 1.0

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for key, value in report.user_properties:
            if key == _KEY:
                injected, recovered = value  # type: ignore[misc]
                self.total.injected += int(injected)
                self.total.recovered += int(recovered)
                self.tests += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.share < LEAST_RECOVERED and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.total.injected:
            terminalreporter.section("chaos report")
            terminalreporter.line(
                f"{self.total.injected} faults injected in {self.tests} tests, "
                f"{self.total.recovered} recovered without an operator ({self.share:.1%}, "
                f"at least {LEAST_RECOVERED:.0%} are required)"
            )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ChaosReport(), "raylake-chaos-report")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """This test's faults, for the chaos report."""
    mine = Tally()
    yield mine
    request.node.user_properties.append((_KEY, (mine.injected, mine.recovered)))
