"""The chaos report: faults injected and recovered without an operator, over all tests (SPEC B1).

Each test's numbers travel to the controlling process with its report, so that they add up also
with several workers. `make chaos` sets a seed; such a run in which no fault hit has failed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

LEAST_RECOVERED = 0.95
SEED_ENV = "RAYLAKE_CHAOS_SEED"
_KEY = "chaos"


@dataclass
class Tally:
    """Faults of one test.

    Attributes:
        hits: How many hit, by crash point, or by what the test itself did.
        recovered: Of those, after which the account was exact without anyone's help.
        transient: Of all, failures of a broker or store that passed: nothing was killed.
        transient_recovered: Of those, recovered.
    """

    hits: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    transient: int = 0
    transient_recovered: int = 0

    @property
    def injected(self) -> int:
        """All that hit."""
        return self.hits.total()

    @property
    def share(self) -> float:
        """The smaller one of the shares that recovered: of all, and of transient failures."""
        of_all = _share(self.recovered, self.injected)
        return min(of_all, _share(self.transient_recovered, self.transient))

    def lines(self) -> Iterator[str]:
        """The account, for people."""
        yield (
            f"{self.injected} faults injected, {self.recovered} recovered without an operator "
            f"({_share(self.recovered, self.injected):.1%})"
        )
        yield (
            f"{self.transient} of them transient failures of a broker or store, "
            f"{self.transient_recovered} recovered "
            f"({_share(self.transient_recovered, self.transient):.1%})"
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


class ChaosReport:
    """Adds up the tallies."""

    def __init__(self) -> None:
        self.total = Tally()
        self.tests = 0

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for key, value in report.user_properties:
            if key == _KEY:
                hits, recovered, transient, transient_recovered = value  # type: ignore[misc]
                self.total.hits.update(hits)
                self.total.recovered += int(recovered)
                self.total.transient += int(transient)
                self.total.transient_recovered += int(transient_recovered)
                self.tests += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        none_hit = bool(os.environ.get(SEED_ENV)) and not self.total.injected
        failed = none_hit or self.total.share < LEAST_RECOVERED
        if failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        seed = os.environ.get(SEED_ENV)
        if not (self.total.injected or seed):
            return
        terminalreporter.section("chaos report")
        for point, count in sorted(self.total.hits.items()):
            terminalreporter.line(f"{count:5} {point}")
        for line in self.total.lines():
            terminalreporter.line(line)
        terminalreporter.line(f"{self.tests} tests; at least {LEAST_RECOVERED:.0%} are required")
        if seed:
            terminalreporter.line(f"seed {seed}: `make chaos SEED={seed}` repeats this run")
            if not self.total.injected:
                terminalreporter.line("no fault hit: this run shows nothing, and has failed")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ChaosReport(), "raylake-chaos-report")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """This test's faults, for the chaos report."""
    mine = Tally()
    yield mine
    counts = (mine.recovered, mine.transient, mine.transient_recovered)
    request.node.user_properties.append((_KEY, (dict(mine.hits), *counts)))


@pytest.fixture(scope="session")
def seed() -> int:
    """``RAYLAKE_CHAOS_SEED``, or a new one; printed, so that a failing run can be repeated."""
    chosen = int(os.environ.get(SEED_ENV) or random.SystemRandom().randrange(10**6))
    print(f"\nchaos seed {chosen}: repeat with {SEED_ENV}={chosen}")
    return chosen
